//! Sockets that the service manager holds for the gateway (systemd: sd_listen_fds(3)): they outlive a
//! restart, so that no connection is refused meanwhile.

use std::{collections::BTreeMap, env, net::TcpListener};

use listenfd::ListenFd;

/// The sockets that were passed, by their `FileDescriptorName=`.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<String, TcpListener>);

/// What was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// It is no listening TCP socket.
    #[error(
        "the service manager passed `{name}`, which is not a TCP socket ({error}): its socket unit needs ListenStream=ADDRESS:PORT"
    )]
    Kind {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: std::io::Error,
    },
    /// Two have one name.
    #[error(
        "the service manager passed two sockets named `{0}`: write one ListenStream= for each name; [::]:PORT with BindIPv6Only=both serves IPv4 as well"
    )]
    Twice(String),
}

impl Sockets {
    /// Takes what the environment offers to this process, and removes it from the environment. To be
    /// called before another thread is started: the environment is shared.
    ///
    /// # Errors
    /// [`SocketsError`].
    pub fn inherit() -> Result<Self, SocketsError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut offered = ListenFd::from_env();
        let mut sockets = BTreeMap::new();
        for index in 0..offered.len() {
            let name = names.next().unwrap_or_default().to_owned();
            match offered.take_tcp_listener(index) {
                Ok(Some(socket)) if !sockets.contains_key(&name) => drop(sockets.insert(name, socket)),
                Ok(Some(_)) => return Err(SocketsError::Twice(name)),
                // No index is asked for twice.
                Ok(None) => {}
                Err(error) => return Err(SocketsError::Kind { name, error }),
            }
        }
        Ok(Self(sockets))
    }

    /// The socket of that name, once.
    pub fn take(&mut self, name: &str) -> Option<TcpListener> {
        self.0.remove(name)
    }

    /// The names that nobody has taken: what connects to these would wait for ever.
    pub fn rest(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
