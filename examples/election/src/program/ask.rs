//! `election resign`.

use std::process::ExitCode;

use service_lib::ask_first;
use service_lib::operator::At;
use service_lib::resp::Reply;

use super::failure::Failure;

pub(super) async fn resign(at: At) -> Result<ExitCode, Failure> {
    match ask_first(at.addresses()?, &["RESIGN"]).await? {
        Reply::Integer(1..) => Ok(ExitCode::SUCCESS),
        Reply::Integer(_) => {
            service_lib::print_stderr(format_args!(
                "election: there is no leader at the moment; see `election status`"
            ));
            Ok(ExitCode::FAILURE)
        }
        _ => Err(Failure::Refused(
            "unexpected reply to RESIGN; is another program listening there?".into(),
        )),
    }
}
