//! A registry that answers as a test says, well or badly, and notes when it was asked.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use serde_json::{Value as Json, json};

/// What a request for a schema gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status, headers that end with a line break each, and a body.
    Says(u16, &'static str, String),
    /// A body of which the second half never comes.
    Half(String),
    /// The connection stays open, and that is all.
    Nothing,
}

/// The registry; it is there until the test's process ends.
pub struct ScriptedRegistry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Answer {
    /// The registry has the schema.
    pub fn schema(schema: &Json) -> Answer {
        Answer::Says(200, "", json!({"schema": schema.to_string()}).to_string())
    }

    /// The registry says itself that it has no such schema.
    pub fn unknown() -> Answer {
        let body = json!({"error_code": 40403, "message": "Schema not found"});
        Answer::Says(404, "", body.to_string())
    }
}

impl ScriptedRegistry {
    /// Answers the first request with `answer(0)`, the next with `answer(1)`, and so on.
    pub fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> ScriptedRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (noted, answer) = (noted.clone(), answer.clone());
                let next = move || {
                    let mut asked = noted.lock().unwrap();
                    asked.push(Instant::now());
                    answer(asked.len() - 1)
                };
                thread::spawn(move || serve(client.unwrap(), next));
            }
        });
        ScriptedRegistry { address, asked }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When it was asked for a schema.
    pub fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request, one connection.
fn serve(client: TcpStream, answer: impl FnOnce() -> Answer) {
    let mut lines = BufReader::new(&client).lines();
    let request = lines.next().unwrap().unwrap();
    assert!(request.starts_with("GET /schemas/ids/"), "{request}");
    assert!(lines.any(|line| line.unwrap().is_empty()));
    let (status, headers, body, length) = match answer() {
        Answer::Says(status, headers, body) => (status, headers, body.clone(), body.len()),
        Answer::Half(body) => (200, "", body[..body.len() / 2].to_owned(), body.len()),
        Answer::Nothing => {
            thread::park();
            return;
        }
    };
    let head = "Content-Type: application/vnd.schemaregistry.v1+json\r\nConnection: close\r\n";
    let answer =
        format!("HTTP/1.1 {status} -\r\n{head}{headers}Content-Length: {length}\r\n\r\n{body}");
    // whoever asked may have gone
    _ = (&client).write_all(answer.as_bytes());
}
