//! A look at a replica from outside.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use service::Transfer;

use super::arguments::Status;
use super::failure::Failure;

const TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(200);
/// A longer answer is none.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

pub(super) fn run(arguments: &Status) -> Result<(), Failure> {
    let address = arguments.address;
    let ask = || info(address).map_err(|why| Failure::Ask { address, why });
    if !arguments.watch {
        let _ = io::stdout().write_all(ask()?.as_bytes());
        return Ok(());
    }
    let bar = ProgressBar::new(0);
    loop {
        show(&bar, &ask()?);
        thread::sleep(INTERVAL);
    }
}

/// What the replica says of itself.
fn info(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"INFO replication\r\n")?;
    let mut stream = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut head = String::new();
    stream.read_line(&mut head)?;
    let length = head.trim_end().strip_prefix('$').and_then(|length| length.parse().ok());
    let Some(length) = length else { return Err(io::Error::other(head)) };
    let mut text = String::new();
    stream.take(length).read_to_string(&mut text)?;
    Ok(text)
}

/// One line for a replica that is up to date or waits, and a bar for one that receives.
fn show(bar: &ProgressBar, info: &str) {
    let field = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
        info.lines().find_map(value).unwrap_or_default()
    };
    let role = format!("replica {}: {}", field("id"), field("role"));
    let (style, message) = match field("transfer").parse::<Transfer>() {
        Ok(Transfer { from, bytes, of, per_second, seconds_left }) => {
            bar.set_length(of);
            bar.set_position(bytes);
            let message = format!(
                "from replica {from}, {:.1} MB/s, {seconds_left} s left",
                per_second as f64 / 1e6
            );
            ("{prefix} {wide_bar} {bytes} of {total_bytes} {msg}", message)
        }
        Err(()) => {
            let (committed, applied) = (field("committed"), field("applied"));
            let counts = format!("committed {committed}, applied {applied}");
            ("{prefix}, {msg}", format!("{counts} {}", field("obstacle")))
        }
    };
    // The templates are ours, and sound.
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(role);
    bar.set_message(message);
    bar.tick();
}
