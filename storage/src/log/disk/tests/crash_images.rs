use super::tape::{Step, crash};
use super::*;
use crate::conformance::{Draw, draw_write};

/// Makes `writes` random writes to a log. Returns its tape, and the content after each write.
fn written(folder: &Path, seed: u64, writes: u64) -> (Tape, Vec<StoredLog>) {
    let (mut draw, tape, mut model) = (Draw::new(seed), Tape::default(), MemoryLog::new());
    format_on(tape.clone(), &State::new()).unwrap();
    let (mut log, held) = open_on(folder, tape.clone(), 1).unwrap();
    tape.note(Step::Acknowledged(1));
    // The write that formats the log has number 1.
    let mut after = vec![StoredLog::default(), held];
    let (mut first, mut last) = (0, 0);
    for _ in 0..writes {
        let ops = draw_write(&mut draw, &mut first, &mut last);
        log.write(ops.clone()).unwrap();
        model.write(ops).unwrap();
        after.push(model.recover(0).unwrap());
        tape.note(Step::Acknowledged(log.state.serial));
    }
    (tape, after)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (mut whole, mut cut_short) = (0, 0);
    for seed in 0..cases(400).div_ceil(20) {
        let (tape, after) = written(folder.path(), seed, 30);
        let steps = tape.steps();
        let formatted = steps.iter().position(|step| matches!(step, Step::Acknowledged(1)));
        let formatted = formatted.unwrap() as u64;
        let mut draw = Draw::new(seed);
        for _ in 0..20 {
            let until = formatted + 1 + draw.below(steps.len() as u64 - formatted);
            let steps = &steps[..until as usize];
            let acknowledged = steps.iter().rev().find_map(|step| match step {
                Step::Acknowledged(serial) => Some(*serial),
                _ => None,
            });
            let acknowledged = acknowledged.unwrap();
            // The watermark is not synced, so it may be older.
            let synced = acknowledged - draw.below(3.min(acknowledged));
            let image = crash(steps, &mut draw);
            let (log, recovered) = open(folder.path(), image, synced)
                .unwrap_or_else(|error| panic!("seed {seed}, step {until}: {error}"));
            let serial = log.state.serial;
            assert!(
                serial == acknowledged || serial == acknowledged + 1,
                "seed {seed}, step {until}: {serial} after {acknowledged}"
            );
            assert_eq!(recovered, after[serial as usize], "seed {seed}, step {until}");
            whole += u64::from(serial > acknowledged);
            cut_short += u64::from(serial == acknowledged);
        }
    }
    assert!(whole > 0 && cut_short > 0, "{whole} were whole and {cut_short} cut short");
}

#[test]
fn a_log_accepts_writes_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (tape, after) = written(folder.path(), 7, 30);
    let image = crash(&tape.steps(), &mut Draw::new(7));
    let (mut log, recovered) = open(folder.path(), image, 31).unwrap();
    assert_eq!(recovered, after[31]);
    let index = log.state.last + 1;
    log.write(vec![LogOp::Append(Record { index, head: "more".into(), body: "".into() })]).unwrap();
    assert_eq!(log.recover(0).unwrap().records.last().unwrap().index, index);
}

#[test]
fn a_log_that_ends_before_the_watermark_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (tape, _) = written(folder.path(), 3, 10);
    let image = crash(&tape.steps(), &mut Draw::new(3));
    let refused = open(folder.path(), image, 12).unwrap_err().to_string();
    assert!(refused.contains("ends with write 11, but write 12 was synced"), "{refused}");
}

#[test]
fn nothing_is_written_after_a_failed_sync() {
    let folder = tempfile::tempdir().unwrap();
    let tape = Tape::default();
    format_on(tape.clone(), &State::new()).unwrap();
    let (mut log, _) = open_on(folder.path(), tape.clone(), 1).unwrap();
    let append = |index| LogOp::Append(Record { index, head: "head".into(), body: "body".into() });
    log.write(vec![append(1)]).unwrap();
    tape.let_syncs_fail();
    let failed = log.write(vec![append(2)]).unwrap_err();
    assert!(matches!(failed, StorageError::Io { .. }), "{failed}");
    let syncs = || tape.steps().iter().filter(|step| matches!(step, Step::Sync)).count();
    let before = syncs();
    for _ in 0..3 {
        let refused = log.write(vec![append(2)]).unwrap_err();
        assert!(matches!(refused, StorageError::Failed { .. }), "{refused}");
    }
    drop(log);
    assert_eq!(syncs(), before, "a failed sync is not repeated");
}
