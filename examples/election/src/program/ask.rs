//! `election status` and `election resign`.

use std::io::{self, Write};
use std::process::ExitCode;

use service::Client;
use service::resp::Reply;

use super::arguments::Ask;
use super::failure::Failure;

pub(super) async fn status(arguments: Ask) -> Result<ExitCode, Failure> {
    match ask(&arguments, &["STATUS"]).await? {
        Reply::BulkString(text) => {
            io::stdout().write_all(&text).map_err(Failure::System)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::Refused("this is no answer to STATUS".into())),
    }
}

pub(super) async fn resign(arguments: Ask) -> Result<ExitCode, Failure> {
    match ask(&arguments, &["RESIGN"]).await? {
        Reply::Integer(1..) => Ok(ExitCode::SUCCESS),
        Reply::Integer(_) => {
            eprintln!("election: nobody leads");
            Ok(ExitCode::FAILURE)
        }
        _ => Err(Failure::Refused("this is no answer to RESIGN".into())),
    }
}

/// Asks the first member that answers.
async fn ask(arguments: &Ask, words: &[&str]) -> Result<Reply, Failure> {
    let mut whys = Vec::new();
    for address in &arguments.addresses {
        let asked = async { Client::connect(address).await?.call(words).await };
        match asked.await {
            Ok(Reply::Error(why)) if why.starts_with("CLUSTERDOWN ") => {
                whys.push(format!("{address}: {why}"));
            }
            Ok(Reply::Error(why)) => return Err(Failure::Refused(why.to_string())),
            Ok(reply) => return Ok(reply),
            Err(why) => whys.push(format!("{address}: {why}")),
        }
    }
    Err(Failure::NoMember(whys.join("; ")))
}
