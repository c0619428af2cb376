use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// Returns true if this process has a controlling terminal. A terminal sends signals to whole
/// process groups, and suspends background groups that read from it.
pub(crate) fn has_controlling_terminal() -> bool {
    let flags = OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open("/dev/tty");
    opened.is_ok()
}
