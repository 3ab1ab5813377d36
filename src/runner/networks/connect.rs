//! Connecting containers to networks and taking them off again, also while they run.

use crate::store::Store;

use super::super::container::Container;
use super::super::control;
use super::super::error::Error;
use super::super::events;
use super::super::spec::{self, Network};
use super::super::wire::Request;
use super::{Attachment, Guard, Plug, find_network, lease};

/// Connects a container to a network; one that runs gets an interface more.
pub fn connect(store: &Store, container: &mut Container, wanted: Attachment) -> Result<(), Error> {
    let network = find_network(store, &wanted.network)?;
    let name = container.config.name.clone();
    let wanted = Attachment {
        network: network.name.clone(),
        ..wanted
    };
    let request = &container.config.request;
    if !matches!(request.network, Network::Private | Network::Named) {
        return Err(Error::NoOwnNetwork { name });
    }
    if request
        .networks
        .iter()
        .any(|one| one.network == network.name)
    {
        return Err(Error::Connected {
            name,
            network: network.name,
        });
    }
    if container.runs()? {
        let lease = {
            let guard = Guard::take(store.root())?;
            lease::take(store, &guard, container, &network, &wanted)?
        };
        let plug = Plug::new(&network, &lease, spec::asked_reach(request), &request.dns);
        let asked = control::connect(container)
            .and_then(|link| link.ask(&Request::Connect(Box::new(plug))));
        match asked {
            // It has ended meanwhile, and is on the network when it starts.
            Err(Error::NotRunning { .. }) | Ok(()) => {}
            Err(error) => {
                lease::release(store.root(), &network.name, &container.id)?;
                return Err(error);
            }
        }
    }
    container.update(|request| request.networks.push(wanted))?;
    events::emit_network(store.root(), "connect", &network, Some(&container.id));
    Ok(())
}

/// Takes a container off a network.
pub fn disconnect(store: &Store, container: &mut Container, text: &str) -> Result<(), Error> {
    let connected = |network: &str| {
        let mut networks = container.config.request.networks.iter();
        networks.any(|one| one.network == network)
    };
    // A container may still be connected to a network that is gone.
    let network = match connected(text) {
        true => text.to_owned(),
        false => find_network(store, text)?.name,
    };
    if !connected(&network) {
        return Err(Error::NotConnected {
            name: container.config.name.clone(),
            network,
        });
    }
    let asked = control::connect(container)
        .and_then(|link| link.ask(&Request::Disconnect(network.clone())));
    match asked {
        Err(Error::NotRunning { .. }) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    lease::release(store.root(), &network, &container.id)?;
    container.update(|request| request.networks.retain(|one| one.network != network))?;
    if let Ok(network) = find_network(store, &network) {
        events::emit_network(store.root(), "disconnect", &network, Some(&container.id));
    }
    Ok(())
}
