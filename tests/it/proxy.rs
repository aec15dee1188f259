//! A TCP proxy before a service, with which the service can be away for a while.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Passes connections on, unless it is cut.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    statements: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    freezing: Arc<Freezing>,
}

/// After how many bytes of one connection's its client looks frozen, and whether one does.
struct Freezing {
    after: AtomicUsize,
    frozen: AtomicUsize,
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
        let statements = Arc::new(AtomicUsize::new(0));
        let answered = Arc::new(AtomicUsize::new(0));
        let freezing = Arc::new(Freezing { after: usize::MAX.into(), frozen: 0.into() });
        let (kept, counted, answers) = (state.clone(), statements.clone(), answered.clone());
        let freeze = freezing.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut state = kept.lock().unwrap();
                if state.cut {
                    state.refused += 1;
                } else {
                    let server = TcpStream::connect(&target).unwrap();
                    let sent = Statements::counted_in(counted.clone());
                    pass_on(&client, &server, sent, Some(freeze.clone()));
                    pass_on(&server, &client, Bytes(answers.clone()), None);
                    state.connections.extend([client, server]);
                }
            }
        });
        Proxy { address, state, statements, answered, freezing }
    }

    /// Before the Postgres of a URL; gives the URL that leads through it, without TLS.
    pub fn before_postgres(url: &str) -> (Proxy, String) {
        let (user, place) = url.rsplit_once('@').unwrap();
        let (address, database) = place.split_once('/').unwrap();
        let proxy = Proxy::before(address.to_owned());
        let url = format!("{user}@{}/{database}?sslmode=disable", proxy.address());
        (proxy, url)
    }

    /// Before the registry of a URL; gives the URL that leads through it.
    pub fn before_registry(url: &str) -> (Proxy, String) {
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let proxy = Proxy::before(address.to_owned());
        let url = format!("http://{}/{path}", proxy.address());
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

    /// Passes so many bytes on of what a client sends over a connection, and keeps it open then, even
    /// when the client is gone: to the service it looks frozen.
    pub fn freeze_after(&self, bytes: usize) {
        self.freezing.after.store(bytes, Ordering::Relaxed);
    }

    /// How many clients look frozen.
    pub fn frozen(&self) -> usize {
        self.freezing.frozen.load(Ordering::Relaxed)
    }

    /// How many bytes the service has answered with.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many statements clients asked the Postgres behind it to run.
    pub fn statements(&self) -> usize {
        self.statements.load(Ordering::Relaxed)
    }

    /// How many connections were turned away.
    pub fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }
}

fn pass_on(
    from: &TcpStream,
    to: &TcpStream,
    mut seen: impl Write + Send + 'static,
    freezing: Option<Arc<Freezing>>,
) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut bytes = [0; 65_536];
        let mut passed = 0;
        // a connection that breaks ends as one that is closed
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let after = freezing.as_ref().map(|freezing| freezing.after.load(Ordering::Relaxed));
            let left = after.map_or(length, |after| length.min(after.saturating_sub(passed)));
            seen.write_all(&bytes[..left]).unwrap();
            if to.write_all(&bytes[..left]).is_err() {
                break;
            }
            passed += left;
            if let Some(freezing) = &freezing
                && left < length
            {
                freezing.frozen.fetch_add(1, Ordering::Relaxed);
                loop {
                    thread::park();
                }
            }
        }
        _ = to.shutdown(Shutdown::Write);
    });
}

/// Counts what passes.
struct Bytes(Arc<AtomicUsize>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what a client of Postgres has run, by the messages that it sends: Query and Execute. What
/// another protocol's client sends counts for something, too, and nobody asks.
struct Statements {
    count: Arc<AtomicUsize>,
    /// The message that has begun: its type, where it has one, and its length.
    head: Vec<u8>,
    /// How much of the message is to come.
    rest: usize,
    /// The first message of a connection has no type.
    is_first: bool,
}

impl Statements {
    fn counted_in(count: Arc<AtomicUsize>) -> Statements {
        Statements { count, head: Vec::new(), rest: 0, is_first: true }
    }
}

impl Write for Statements {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut left = bytes;
        while let Some((byte, behind)) = left.split_first() {
            if self.rest > 0 {
                let skipped = self.rest.min(left.len());
                self.rest -= skipped;
                left = &left[skipped..];
                continue;
            }
            self.head.push(*byte);
            left = behind;
            let length_at = usize::from(!self.is_first);
            if let Ok(length) = <[u8; 4]>::try_from(&self.head[length_at.min(self.head.len())..]) {
                self.count.fetch_add(usize::from(b"QE".contains(&self.head[0])), Ordering::Relaxed);
                // the length counts itself
                self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.head.clear();
                self.is_first = false;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn statements_are_counted_however_the_stream_is_cut_into_pieces() {
    let message = |kind: &[u8], body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [kind, &length, body].concat()
    };
    let stream = [
        message(b"", b"\0\x03\0\0user\0QQQQ\0\0"),
        message(b"Q", b"BEGIN\0"),
        message(b"P", b"\0SELECT 1\0\0\0"),
        message(b"E", b"\0\0\0\0\0"),
        message(b"S", b""),
        message(b"d", b"QEQEQEQEQE"),
    ]
    .concat();
    for size in 1..stream.len() {
        let mut statements = Statements::counted_in(Arc::default());
        stream.chunks(size).for_each(|piece| statements.write_all(piece).unwrap());
        assert_eq!(statements.count.load(Ordering::Relaxed), 2, "in pieces of {size}");
    }
}
