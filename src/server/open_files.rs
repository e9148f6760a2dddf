use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Limits;

/// Takes as many open files as the system lets this process have, and says how many that are.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return FEW };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

impl Limits {
    /// No more connections than there are files for: one in two may need a second one, to an upstream.
    pub fn within(self, open_files: u64) -> Self {
        let places = usize::try_from(open_files.saturating_sub(RESERVED) / 3 * 2).unwrap_or(usize::MAX);
        Self { connections: self.connections.min(places).max(1), ..self }
    }
}

/// What POSIX promises at least, for a system that does not say.
const FEW: u64 = 256;
/// For the databases, the trust directory and the log.
const RESERVED: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_their_upstreams() {
        let limits = Limits::default();
        assert_eq!(limits.within(1024).connections, 640);
        assert_eq!(limits.within(u64::MAX).connections, limits.connections);
        assert_eq!(limits.within(10).connections, 1);
    }
}
