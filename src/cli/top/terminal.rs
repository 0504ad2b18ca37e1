//! The terminal while a page stays on it: keys come at once and are not echoed, what was on it before comes back behind the page, also
//! when the process is told to stop or panics.

use std::io::{Stdout, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Another screen, without cursor, on which lines that are too long are cut; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What is used where a terminal does not say how large it is.
const USUAL: (usize, usize) = (80, 24);

/// Whether the other screen is shown.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// A terminal with a page on it.
pub(super) struct Terminal {
    input: OwnedFd,
    output: Stdout,
    before: Termios,
}

impl Terminal {
    /// Puts the terminal of standard input and output into this state.
    pub(super) fn enter() -> std::io::Result<Self> {
        let terminal = Self::on(std::io::stdin().as_fd().try_clone_to_owned()?)?;
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // What it says is to be read on the screen that stays.
            leave();
            told(panic);
        }));
        write(ENTER)?;
        SHOWN.store(true, Ordering::SeqCst);
        Ok(terminal)
    }

    fn on(input: OwnedFd) -> std::io::Result<Self> {
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        // Signals of keys are off too: a stop by Ctrl-Z would leave the shell with this state.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN);
        // Reading ends after a tenth of a second, with what has come.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(&input, OptionalActions::Flush, &raw)?;
        Ok(Self { input, output: std::io::stdout(), before })
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(&self.output).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or(USUAL, |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// Shows these lines in place of what is there.
    pub(super) fn draw(&self, lines: &[String]) -> std::io::Result<()> {
        let plain = anstream::AutoStream::choice(&self.output) == anstream::ColorChoice::Never;
        let mut frame = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                frame.push_str("\r\n");
            }
            if plain {
                frame.push_str(&anstream::adapter::strip_str(line).to_string());
            } else {
                frame.push_str(line);
            }
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J");
        write(&frame)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.input, OptionalActions::Flush, &self.before);
    }
}

/// Back to the screen that was there before.
fn leave() {
    if SHOWN.swap(false, Ordering::SeqCst) {
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn a_terminal_is_as_it_was_after_a_panic() {
        let there = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&there).unwrap();
        unlockpt(&there).unwrap();
        let name = ptsname(&there, Vec::new()).unwrap();
        let open = || std::fs::File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        let here = open();
        let modes = || tcgetattr(&here).unwrap().local_modes;
        let before = modes();
        assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));
        let panicked = std::panic::catch_unwind(|| {
            let _terminal = Terminal::on(open().into()).unwrap();
            assert!(!tcgetattr(open()).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO));
            std::panic::resume_unwind(Box::new("as a panic does"));
        });
        assert!(panicked.is_err());
        assert_eq!(modes(), before);
    }
}
