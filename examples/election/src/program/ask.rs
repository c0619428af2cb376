//! `election status` and `election resign`.

use std::io::{self, Write};
use std::process::ExitCode;

use service::ask_first;
use service::resp::Reply;

use super::arguments::Ask;
use super::failure::Failure;

pub(super) async fn status(arguments: Ask) -> Result<ExitCode, Failure> {
    match ask_first(&arguments.addresses, &["STATUS"]).await? {
        Reply::BulkString(text) => {
            io::stdout().write_all(&text).map_err(Failure::System)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::Refused("this is no answer to STATUS".into())),
    }
}

pub(super) async fn resign(arguments: Ask) -> Result<ExitCode, Failure> {
    match ask_first(&arguments.addresses, &["RESIGN"]).await? {
        Reply::Integer(1..) => Ok(ExitCode::SUCCESS),
        Reply::Integer(_) => {
            eprintln!("election: nobody leads");
            Ok(ExitCode::FAILURE)
        }
        _ => Err(Failure::Refused("this is no answer to RESIGN".into())),
    }
}
