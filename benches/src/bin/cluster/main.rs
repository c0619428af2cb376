//! Measures three replicas on three nodes with real Corosync daemons, in turns with two-step commit
//! on libcpg alone (`benches/raw/commit.c`).

mod group;
mod raw;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use plainsong::Consistency;
use plainsong_benches::load::Work;
use plainsong_benches::{Load, Series};
use plainsong_tests::rig::{self, Cluster};

use self::group::Group;
use self::raw::Raw;

/// Timeout for the forming of a ring.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures groups of three replicas on Corosync.
#[derive(Parser)]
#[command(name = "benches/run cluster")]
struct Arguments {
    /// Number of rounds; programs are measured in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Encrypt messages between daemons.
    #[arg(long)]
    encrypted: bool,
    /// Setting of Corosync, e.g. `system.sched_rr=no`; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    setting: Vec<[String; 3]>,
    /// Keep the stores on disk, below this directory.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Sizes of a command, in bytes.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    bytes: Vec<usize>,
    /// Numbers of callers, each with one command in progress.
    #[arg(long, value_delimiter = ',', default_value = "1,8,50,500,1024,10000")]
    callers: Vec<usize>,
    /// Measure linearizable and local reads instead of commands.
    #[arg(long)]
    reads: bool,
    /// Program that measures two-step commit on libcpg.
    #[arg(long)]
    raw: Option<PathBuf>,
    /// Program of the replicas; further ones are compared to the first.
    #[arg(long, required = true)]
    program: Vec<PathBuf>,
    /// Places of the callers: `sequencer`, `elsewhere`, `everywhere`.
    #[arg(long, value_delimiter = ',', default_value = "sequencer,elsewhere,everywhere")]
    at: Vec<String>,
}

/// Results of one program under one load.
#[derive(Default)]
struct Found {
    rate: Series,
    p50_us: Series,
    p99_us: Series,
    processor_us: Series,
}

fn main() -> rig::Result<()> {
    let arguments = Arguments::parse();
    let name = format!("benches-{}", std::process::id());
    let builder = Cluster::builder().name(&name).encrypted(arguments.encrypted).token_ms(3000);
    let with = |builder: rig::Builder, [section, key, value]: &[String; 3]| {
        builder.setting(section, key, value)
    };
    let cluster = arguments.setting.iter().fold(builder, with).start()?;
    println!("{}", cluster.wait_for_ring(&[1, 2, 3], PATIENCE)?);
    let groups: Vec<Group> = arguments
        .program
        .iter()
        .enumerate()
        .map(|(at, program)| Group::start(&cluster, program, at, arguments.folder.as_deref()))
        .collect::<rig::Result<_>>()?;
    let time = Duration::from_secs_f64(arguments.seconds);
    let screen = |program: &PathBuf| Raw::start(&cluster, program, arguments.rounds.min(3), time);
    let raw = arguments.raw.as_ref().filter(|_| !arguments.reads).map(screen).transpose()?;
    println!(
        "{:>12} {:>7} {:>10} | {:>9} {:>9} {:>9} {:>7} | ratios",
        "work", "callers", "at", "a second", "p50 us", "p99 us", "cpu us"
    );
    for load in loads(&arguments) {
        for at in &arguments.at {
            compare(&groups, load, at, arguments.rounds, raw.as_ref())?;
        }
    }
    Ok(())
}

fn setting(text: &str) -> Result<[String; 3], String> {
    let parts = || {
        let (section, rest) = text.split_once('.')?;
        let (key, value) = rest.split_once('=')?;
        Some([section, key, value].map(str::to_owned))
    };
    parts().ok_or_else(|| "expected SECTION.KEY=VALUE".to_owned())
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let works: Vec<Work> = if arguments.reads {
        [Consistency::Linearizable, Consistency::Local].map(Work::Read).to_vec()
    } else {
        arguments.bytes.iter().map(|bytes| Work::Propose(*bytes)).collect()
    };
    let time = Duration::from_secs_f64(arguments.seconds);
    let each =
        |work| arguments.callers.iter().map(move |callers| Load { work, callers: *callers, time });
    works.into_iter().flat_map(each).collect()
}

/// Measures all programs and libcpg alone in turns, with a different one first in each round.
fn compare(
    groups: &[Group],
    load: Load,
    at: &str,
    rounds: usize,
    raw: Option<&Raw<'_>>,
) -> rig::Result<()> {
    let mut found: Vec<Found> = groups.iter().map(|_| Found::default()).collect();
    let mut limit = Series::default();
    for round in 0..rounds {
        for turn in 0..=groups.len() {
            let who = (turn + round) % (groups.len() + 1);
            if who == groups.len() {
                if let Some(raw) = raw {
                    limit.push(raw.limit(load)?);
                }
                continue;
            }
            let measured = groups[who].measure(load, at)?;
            found[who].rate.push(measured.rate);
            found[who].p50_us.push(measured.p50_us);
            found[who].p99_us.push(measured.p99_us);
            found[who].processor_us.push(measured.processor_us);
        }
    }
    let text = load.to_string();
    let work = text.split(' ').next().unwrap_or_default();
    for (number, one) in found.iter().enumerate() {
        print!(
            "{work:>12} {:>7} {at:>10} | {:>9.0} {:>9.0} {:>9.0} {:>7.2} |",
            load.callers,
            one.rate.median(),
            one.p50_us.median(),
            one.p99_us.median(),
            one.processor_us.median(),
        );
        if number > 0 {
            print!(
                " to the first: rate {}, p50 {}",
                one.rate.per(&found[0].rate),
                one.p50_us.per(&found[0].p50_us)
            );
        }
        if raw.is_some() && load.callers == 1 {
            print!(" p50 to raw {}", one.p50_us.per(&limit));
        } else if raw.is_some() {
            print!(" rate to raw {}", one.rate.per(&limit));
        }
        println!();
    }
    Ok(())
}
