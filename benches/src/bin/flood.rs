//! Floods a group with messages and counts its own deliveries, with the crate `cpg`. The same loop
//! as `benches/raw/flood.c`, which measures libcpg itself.
//!
//! ```text
//! flood COUNT BYTES WINDOW [ENGINE]
//! ```
//!
//! At most `WINDOW` messages are in flight. Prints messages per second.

use std::error::Error;
use std::io::IoSlice;
use std::time::Instant;

use cpg::{Dispatch, Event, GroupName, Guarantee, Options, Transport};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (numbers, transport) =
        arguments.split_at_checked(3).ok_or("COUNT BYTES WINDOW [ENGINE]")?;
    let numbers: Vec<usize> = numbers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [count, bytes, window] = numbers[..] else { unreachable!("three were taken") };
    let transport: Transport = transport.first().map_or("corosync", String::as_str).parse()?;
    let message = vec![0; bytes];

    let connection = transport.connect(Options::default())?;
    connection.join(&GroupName::new("flood")?)?;
    connection.dispatch(Dispatch::One, |event| {
        assert!(matches!(event, Event::Configuration(_)), "the first event is the own join");
    })?;

    let (mut sent, mut heard, mut bytes_received) = (0, 0, 0);
    let mut kept = None;
    let begin = Instant::now();
    while heard < count {
        while sent < count && sent - heard < window {
            match connection.multicast(Guarantee::Agreed, &[IoSlice::new(&message)]) {
                Ok(()) => sent += 1,
                Err(cpg::Error::TryAgain) => break,
                Err(error) => return Err(error.into()),
            }
        }
        connection.wait(None)?;
        connection.dispatch(Dispatch::All, |event| {
            if let Event::Deliver { message, .. } = event {
                heard += 1;
                bytes_received += message.len();
                kept = Some(message);
            }
        })?;
    }
    println!("{:.0}", count as f64 / begin.elapsed().as_secs_f64());
    assert_eq!(bytes_received, count * bytes, "every message was delivered as a whole");
    drop(kept);
    Ok(())
}
