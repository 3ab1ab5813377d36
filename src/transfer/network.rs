//! The way out: one HTTP client and one runtime for as long as a program runs.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::image::Reference;
use crate::registry::{self, Client, Daemon, Reader, Repository};

use super::error::Error;

/// Speaks to registries and web servers. Made once for a program; its clones, also in other
/// threads, use its connections, tokens and credentials again. Making it costs nothing: threads
/// and certificates come with the first use.
#[derive(Debug, Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    runtime: OnceLock<Runtime>,
}

impl Default for Network {
    fn default() -> Self {
        Self::new(registry::Options::default())
    }
}

impl Network {
    /// Prepares to speak as `options` say.
    pub fn new(options: registry::Options) -> Self {
        let client = Client::new(options);
        let runtime = OnceLock::new();
        Self {
            shared: Arc::new(Shared { client, runtime }),
        }
    }

    /// Returns a network like this that takes plain http and certificates that do not verify.
    #[must_use]
    pub fn unverified(&self) -> Self {
        Self::new(registry::Options {
            tls_verify: Some(false),
            ..self.client().options().clone()
        })
    }

    /// Returns the registry client.
    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Returns docker's daemon.
    pub(super) fn daemon(&self) -> Daemon {
        Daemon::new(&self.client().options().docker_socket)
    }

    /// Runs a future to its end. The only such place: everything above is ordinary code.
    pub(super) fn wait<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        Ok(self.runtime()?.block_on(work)?)
    }

    /// The caller's thread drives the network; hashing and files have blocking threads.
    fn runtime(&self) -> Result<&Runtime, Error> {
        if let Some(runtime) = self.shared.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("cooper-io")
            .build()
            .map_err(|source| Error::Runtime { source })?;
        Ok(self.shared.runtime.get_or_init(|| runtime))
    }

    /// Returns the places of `name` for reading, unless the name is a local one.
    pub(super) fn reader(&self, name: &Reference) -> Result<Reader, Error> {
        refuse_local(name)?;
        Ok(self.client().reader(name)?)
    }

    /// Returns the repository of `name` for writing. `sources` may hold its blobs already.
    pub(super) fn writer(&self, name: &Reference, sources: &[String]) -> Result<Repository, Error> {
        refuse_local(name)?;
        Ok(self.client().writer(name, sources)?)
    }
}

impl Drop for Shared {
    /// Waits a moment for writers to take back half a blob; a name lookup that hangs is left.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

fn refuse_local(name: &Reference) -> Result<(), Error> {
    if !name.is_local_only() {
        return Ok(());
    }
    Err(Error::LocalOnly {
        name: name.familiar(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_name_never_goes_to_the_network() {
        let name: Reference = "localhost/app".parse().unwrap();
        let refused = Network::default().reader(&name);
        assert!(matches!(refused, Err(Error::LocalOnly { .. })));
    }

    #[test]
    fn several_threads_wait_at_once() {
        let network = Network::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let nap = async {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok::<_, Error>(())
                    };
                    network.wait(nap).unwrap();
                });
            }
        });
    }
}
