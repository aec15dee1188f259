//! A TCP proxy before a service, with which the service can be away for a while.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Passes connections on, unless it is cut.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    connections: Vec<TcpStream>,
    refused: usize,
}

impl Proxy {
    /// Before the service at `target`, which is a host and a port.
    pub fn before(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let kept = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut state = kept.lock().unwrap();
                if state.cut {
                    state.refused += 1;
                } else {
                    let server = TcpStream::connect(&target).unwrap();
                    pass_on(&client, &server);
                    pass_on(&server, &client);
                    state.connections.extend([client, server]);
                }
            }
        });
        Proxy { address, state }
    }

    /// Before the Postgres of a URL; gives the URL that leads through it, without TLS.
    pub fn before_postgres(url: &str) -> (Proxy, String) {
        let (user, place) = url.rsplit_once('@').unwrap();
        let (address, database) = place.split_once('/').unwrap();
        let proxy = Proxy::before(address.to_owned());
        let url = format!("{user}@{}/{database}?sslmode=disable", proxy.address());
        (proxy, url)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Breaks every connection and lets no new one through.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = true;
        for connection in state.connections.drain(..) {
            // it may be over already
            _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.lock().unwrap().cut = false;
    }

    /// How many connections were turned away.
    pub fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }
}

fn pass_on(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        // a connection that breaks ends as one that is closed
        _ = io::copy(&mut from, &mut to);
        _ = to.shutdown(Shutdown::Write);
    });
}
