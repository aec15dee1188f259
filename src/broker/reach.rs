//! The first word with a broker, and why there is none.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode as Code,
};

use super::{ANSWER, Broker};
use crate::{secret::Secret, tls};

/// How often it is looked whether a broker has said why it does not let us in.
const LOOK: Duration = Duration::from_millis(250);

/// How OpenSSL begins to say what the other side does not like, which is our certificate.
const ALERT: &str = "SSL alert number";

/// What OpenSSL says of a certificate of theirs.
const UNVERIFIED: &str = "certificate verify failed";

impl Broker {
    /// What the cluster has. Fails when no broker answers within a while, and at once when one
    /// says that it will not.
    pub async fn metadata(&self) -> anyhow::Result<Metadata> {
        let mut config = self.client();
        self.pass_through(&mut config);
        // that somebody hangs up is but a notice
        config.set_log_level(RDKafkaLogLevel::Info);
        let consumer: BaseConsumer<Complaints> =
            config.create_with_context(Complaints::default()).map_err(unusable)?;
        let asked = Instant::now();
        let complaint = tokio::task::block_in_place(|| {
            loop {
                match consumer.fetch_metadata(None, LOOK) {
                    Ok(metadata) => return Ok(metadata),
                    Err(error) => {
                        // hands what librdkafka has to say to the context
                        while consumer.poll(Duration::ZERO).is_some() {}
                        let complaint = consumer.context().worst();
                        let is_final = complaint.as_ref().is_some_and(Complaint::is_final);
                        if is_final || asked.elapsed() >= ANSWER {
                            return Err((complaint, error));
                        }
                    }
                }
            }
        });
        match complaint {
            Ok(metadata) => Ok(metadata),
            Err((Some(complaint), _)) => Err(self.explain(complaint).await),
            Err((None, error)) => Err(self.no_answer(&said(&error))),
        }
    }

    async fn explain(&self, complaint: Complaint) -> anyhow::Error {
        let brokers = self.brokers();
        let Complaint { code, said } = &complaint;
        match code {
            Code::SSL => {
                let (said, what_to_do) = self.tls_verdict(said).await;
                anyhow!("Kafka at {brokers} can't be spoken to over TLS: {said}; {what_to_do}")
            }
            Code::Authentication => anyhow!(
                "Kafka at {brokers} does not let us in: {said}; check the user, its password and \
                 the mechanism"
            ),
            // one that restarts may hang up too, so this was waited for
            _ if complaint.is_about_protocol() => {
                anyhow!(
                    "Kafka at {brokers} hangs up: {said}; set --kafka-security-protocol to what it \
                 speaks there"
                )
            }
            _ => self.no_answer(&format!(": {said}")),
        }
    }

    fn no_answer(&self, said: &str) -> anyhow::Error {
        let brokers = self.brokers();
        anyhow!(
            "no Kafka broker answers at {brokers}{said}; start one with `make up`, or set \
             KAFKA_BROKERS"
        )
    }

    fn brokers(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", Secret::expose)
    }

    /// librdkafka has one sentence for all that may be wrong with a certificate. Another TLS
    /// client tells them apart; it gets as far as librdkafka got.
    async fn tls_verdict(&self, said: &str) -> (String, String) {
        const OURS: &str = "--kafka-certificate and --kafka-key";
        let check = || format!("check --kafka-ca, {OURS}");
        if said.contains(ALERT) {
            let what_to_do =
                format!("give a client's certificate that the server trusts with {OURS}");
            return (said.to_owned(), what_to_do);
        }
        if !said.contains(UNVERIFIED) {
            return (said.to_owned(), check());
        }
        let short = said.split(": broker certificate could not").next().unwrap_or(said).to_owned();
        match self.ask_again().await {
            Some(error) => {
                let what_to_do = tls::what_to_do(&error, "--kafka-ca", OURS);
                (tls::verdict(&error).unwrap_or(short), what_to_do.unwrap_or_else(check))
            }
            None => (short, check()),
        }
    }

    async fn ask_again(&self) -> Option<reqwest::Error> {
        let first = self.brokers().split(',').next()?.trim();
        let builder = reqwest::Client::builder().timeout(ANSWER);
        let builder = match self.properties.get("ssl.ca.location") {
            Some(file) => {
                let pem = std::fs::read(file.expose()).ok()?;
                builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).ok()?)
            }
            None => builder,
        };
        builder.build().ok()?.get(format!("https://{first}/")).send().await.err()
    }
}

/// The properties that do not go together.
fn unusable(error: KafkaError) -> anyhow::Error {
    let said = match error {
        KafkaError::ClientCreation(said) => said,
        KafkaError::ClientConfig(_, said, ..) => said,
        other => other.to_string(),
    };
    let what_to_do = match said.starts_with("ssl.key.location failed") {
        true => "; check --kafka-key, and --kafka-key-password-file if the key has a password",
        false => "",
    };
    anyhow!("librdkafka refuses its properties: {said}{what_to_do}")
}

/// That nothing answers is all that some of its errors say.
fn said(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        None | Some(Code::BrokerTransportFailure | Code::OperationTimedOut) => String::new(),
        Some(code) => format!(": {code}"),
    }
}

/// Without the broker's name at the front, and the times at the end.
fn without_decoration(said: &str) -> &str {
    let said = said.split_once("/bootstrap: ").map_or(said, |(_, said)| said);
    said.rsplit_once(" (after ").map_or(said, |(said, _)| said)
}

/// What librdkafka has to say while it tries.
#[derive(Default)]
struct Complaints(Mutex<Vec<Complaint>>);

#[derive(Clone)]
struct Complaint {
    code: Code,
    said: String,
}

impl Complaint {
    /// Whether a person must do something about it.
    fn is_final(&self) -> bool {
        matches!(self.code, Code::SSL | Code::Authentication)
    }

    /// Whether it is likely that another protocol is spoken there.
    fn is_about_protocol(&self) -> bool {
        let said = &self.said;
        said.starts_with("Disconnected") || said.contains("PLAINTEXT broker")
    }
}

impl Complaints {
    fn add(&self, code: Code, said: &str) {
        // no failure of TLS to librdkafka: a certificate of ours that is refused; and one of theirs,
        // if they are so quick that it is there when the handshake begins
        let is_of_tls = said.contains(ALERT) || said.contains(UNVERIFIED);
        let code = if is_of_tls { Code::SSL } else { code };
        let said = without_decoration(said).to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Complaint { code, said });
    }

    /// The one that says most about what a person must do.
    fn worst(&self) -> Option<Complaint> {
        let complaints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_final = complaints.iter().find(|complaint| complaint.is_final());
        let about_protocol =
            || complaints.iter().find(|complaint| complaint.said.contains("PLAINTEXT broker"));
        is_final.or_else(about_protocol).or_else(|| complaints.last()).cloned()
    }
}

impl ClientContext for Complaints {
    fn error(&self, error: KafkaError, said: &str) {
        // that all brokers are down is said of each broker before
        if let Some(code) = error.rdkafka_error_code()
            && code != Code::AllBrokersDown
        {
            self.add(code, said);
        }
    }

    /// The error that ends the run says it. That somebody hangs up is said here alone.
    fn log(&self, _: RDKafkaLogLevel, what: &str, line: &str) {
        tracing::debug!(what, line, "librdkafka");
        if what == "FAIL" {
            self.add(Code::BrokerTransportFailure, line);
        }
    }
}

impl ConsumerContext for Complaints {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_mend_is_told_from_a_broker_that_is_away() {
        let verify = "error:0A000086:SSL routines::certificate verify failed";
        let alert = "Receive failed: error:0A000412:SSL routines::alert: SSL alert number 42";
        let refused = "Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        for (said, code) in
            [(verify, Code::SSL), (alert, Code::SSL), (refused, Code::BrokerTransportFailure)]
        {
            let complaints = Complaints::default();
            let line = format!("localhost:1/bootstrap: {said} (after 1ms in state CONNECT)");
            complaints.add(Code::BrokerTransportFailure, &line);
            let worst = complaints.worst().map(|complaint| (complaint.code, complaint.said));
            assert_eq!(worst, Some((code, said.to_owned())));
        }
    }
}
