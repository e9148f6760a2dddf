use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Config, connection::Connections};
use crate::telemetry::{TrustedProxies, network};

/// The places that connections take: so many in all, of which one address gets no more than half.
///
/// Whoever finds none waits for one, and those that ask nothing give theirs up: a slow answer is no refusal.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// What comes from them is of many.
    proxies: TrustedProxies,
    of_one_address: usize,
    addresses: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    /// Of the connections that have a place, but none among those of their address.
    waiting: Arc<Semaphore>,
}

/// What a connection holds while it is open.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_its_address: Option<OwnedSemaphorePermit>,
}

/// A connection whose address has all that it gets.
pub(super) struct Waiting {
    of_all: OwnedSemaphorePermit,
    network: IpAddr,
    places: Arc<Semaphore>,
    _waits: OwnedSemaphorePermit,
}

impl Waiting {
    pub(super) async fn place(self, connections: &Connections) -> Place {
        let own = free(&self.places, || connections.give_way(Some(self.network))).await;
        Place { _of_all: self.of_all, _of_its_address: Some(own) }
    }
}

impl Places {
    pub(super) fn new(config: &Config) -> Self {
        let all = config.limits.connections;
        Self {
            all: Arc::new(Semaphore::new(all)),
            proxies: config.trusted_proxies.clone(),
            of_one_address: (all / 2).max(1),
            addresses: Mutex::default(),
            waiting: Arc::new(Semaphore::new((all / 8).max(1))),
        }
    }

    /// A place for whoever comes next.
    pub(super) async fn next(&self, connections: &Connections) -> OwnedSemaphorePermit {
        free(&self.all, || connections.give_way(None)).await
    }

    /// The same for one from this address, which may have to wait, or may not even do that.
    pub(super) fn of(&self, address: IpAddr, of_all: OwnedSemaphorePermit) -> Result<Place, Option<Waiting>> {
        if self.proxies.contains(address) {
            return Ok(Place { _of_all: of_all, _of_its_address: None });
        }
        let network = network(address);
        let places = self.of_address(network);
        if let Ok(own) = Arc::clone(&places).try_acquire_owned() {
            return Ok(Place { _of_all: of_all, _of_its_address: Some(own) });
        }
        let waits = Arc::clone(&self.waiting).try_acquire_owned().ok();
        Err(waits.map(|waits| Waiting { of_all, network, places, _waits: waits }))
    }

    fn of_address(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.addresses.lock();
        if let Some(places) = addresses.get(&network).and_then(Weak::upgrade) {
            return places;
        }
        if addresses.len() >= MAX_ADDRESSES {
            addresses.retain(|_, places| places.strong_count() > 0);
        }
        let places = Arc::new(Semaphore::new(self.of_one_address));
        addresses.insert(network, Arc::downgrade(&places));
        places
    }
}

async fn free(places: &Arc<Semaphore>, give_way: impl Fn()) -> OwnedSemaphorePermit {
    loop {
        if let Ok(free) = timeout(GIVE_WAY, Arc::clone(places).acquire_owned()).await {
            return free.expect("the semaphore is never closed");
        }
        give_way();
    }
}

/// How long nothing may have been asked on a connection that keeps its place while others wait.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// Of addresses, those included that have gone since somebody last looked.
const MAX_ADDRESSES: usize = 65_536;
