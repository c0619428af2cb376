use super::*;
use crate::limits::MESSAGE_BYTES_MAX;

fn who(id: u64) -> Participant {
    Participant { id: ClientId(id), pid: Pid(7) }
}

fn name() -> GroupName {
    GroupName::new("group").unwrap()
}

fn all_to_hub() -> Vec<ToHub> {
    let held = Held { group: name(), first: 2, last: 9, members: vec![who(1), who(2)] };
    vec![
        ToHub::Hello { version: VERSION, who: who(1), held: None },
        ToHub::Hello { version: VERSION, who: who(1), held: Some(held) },
        ToHub::Ask(Iteration::NamesOnly),
        ToHub::Ask(Iteration::OneGroup(name())),
        ToHub::Ask(Iteration::All),
        ToHub::Join(name()),
        ToHub::Leave,
        ToHub::Multicast { op: 3, message: Bytes::from_static(b"plainsong") },
        ToHub::Multicast { op: 4, message: Bytes::new() },
        ToHub::FetchEnd,
        ToHub::Bye,
    ]
}

fn all_to_client() -> Vec<ToClient> {
    let entry = |what| ToClient::Entry(Entry { sequence: 5, what });
    let gone = |reason| vec![MemberChange { who: who(3), reason }];
    vec![
        ToClient::Welcome { ring: 8 },
        ToClient::Refused(Error::Exist),
        entry(EntryContent::Message { from: who(1), op: 1, message: Bytes::from_static(b"x") }),
        entry(EntryContent::Change {
            members: vec![who(1)],
            joined: gone(Reason::Join),
            left: gone(Reason::Leave),
        }),
        entry(EntryContent::Change {
            members: vec![],
            joined: vec![],
            left: gone(Reason::ProcessDown),
        }),
        entry(EntryContent::Ring { ring: 12 }),
        ToClient::Fetch { from: 1, to: 2 },
        ToClient::Answer(vec![
            GroupEntry { group: name(), member: None },
            GroupEntry { group: name(), member: Some(who(1).member()) },
        ]),
    ]
}

#[test]
fn every_frame_decodes_to_its_source() {
    for said in all_to_hub() {
        let frame = said.encode();
        assert_eq!(frame_length(&frame), Ok(Some(frame.len())));
        assert_eq!(ToHub::decode(&frame), Ok(said));
    }
    for said in all_to_client() {
        let frame = said.encode();
        assert_eq!(frame_length(&frame), Ok(Some(frame.len())));
        assert_eq!(ToClient::decode(&frame), Ok(said));
    }
}

#[test]
fn a_client_can_return_an_entry_unchanged() {
    let what = EntryContent::Message { from: who(1), op: 1, message: Bytes::from_static(b"x") };
    let entry = Entry { sequence: 5, what };
    let frame = ToClient::Entry(entry.clone()).encode();
    assert_eq!(ToHub::decode(&frame), Ok(ToHub::Entry { entry, frame }));
}

#[test]
fn invalid_entries_are_rejected_by_both_decoders() {
    let what = EntryContent::Message { from: who(1), op: 1, message: Bytes::from_static(b"x") };
    let beyond = ToClient::Entry(Entry { sequence: SEQUENCE_MAX + 1, what }).encode();
    let cut = frame(kind::CHANGE, |out| {
        out.put_u64_le(5);
        out.put_u8(200);
    });
    let long = frame(kind::RING_ENTRY, |out| out.put_bytes(0, 17));
    for frame in [beyond, cut, long] {
        assert!(ToHub::decode(&frame).is_err(), "{frame:?}");
        assert!(ToClient::decode(&frame).is_err(), "{frame:?}");
    }
}

#[test]
fn damaged_frames_never_panic_a_decoder() {
    let frames = all_to_hub().into_iter().map(|said| said.encode());
    for frame in frames.chain(all_to_client().into_iter().map(|said| said.encode())) {
        for cut in 0..frame.len() {
            let _ = ToHub::decode(&frame.slice(..cut));
            let _ = ToClient::decode(&frame.slice(..cut));
        }
        for place in 4..frame.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut damaged = BytesMut::from(&frame[..]);
                damaged[place] = value;
                let damaged = damaged.freeze();
                let _ = ToHub::decode(&damaged);
                let _ = ToClient::decode(&damaged);
            }
        }
    }
}

#[test]
fn frame_and_message_lengths_are_limited() {
    assert_eq!(frame_length(&[1, 0, 0]), Ok(None));
    assert!(frame_length(&[0, 0, 0, 0]).is_err());
    assert!(frame_length(&u32::MAX.to_le_bytes()).is_err());
    let big = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    assert!(ToHub::decode(&ToHub::Multicast { op: 1, message: big }.encode()).is_err());
}
