//! A stream of one's own on the real services, and the program to run on it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    groups::GroupInfo,
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::{Value as Json, json};
use sluicegate::{
    contract::Topic,
    embedded::{EmbeddedBroker, EmbeddedRegistry},
};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long others have the processor between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// One test's own corner of the services.
pub struct Fixture {
    /// Begins every name that this test makes.
    pub prefix: String,
    /// The folder of its contracts.
    pub schemas: TempDir,
    topics: Vec<String>,
    /// A broker and a registry inside the test.
    embedded: Option<(EmbeddedBroker, EmbeddedRegistry)>,
    runtime: tokio::runtime::Runtime,
    addresses: Addresses,
}

/// Where the services are: by the names of their environment variables.
pub type Addresses = BTreeMap<String, String>;

/// One record read from a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Fixture {
    /// A corner with nothing in it yet.
    pub fn new() -> Fixture {
        Fixture::on(ADDRESSES.map(|name| (name.to_owned(), variable(name))).into())
    }

    /// A corner of other services than those of `make test`.
    pub fn on(addresses: Addresses) -> Fixture {
        Fixture::with(addresses, tokio::runtime::Runtime::new().unwrap(), None)
    }

    /// A corner with one stream, `readings`, its topic of one partition, on a broker and a registry
    /// inside the test: the quick lane, for what needs no more of them than any would do.
    #[allow(dead_code, reason = "tests/chaos does without")]
    pub fn embedded(avsc: Json) -> Fixture {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let registry = runtime.block_on(EmbeddedRegistry::start()).unwrap();
        let broker = EmbeddedBroker::start([]).unwrap();
        let addresses = Addresses::from([
            ("KAFKA_BROKERS".to_owned(), broker.brokers().unwrap()),
            ("SCHEMA_REGISTRY_URL".to_owned(), registry.url()),
            ("DATABASE_URL".to_owned(), variable("DATABASE_URL")),
        ]);
        let mut fixture = Fixture::with(addresses, runtime, Some((broker, registry)));
        let topic = fixture.stream("readings", avsc);
        fixture.create_topic(&topic, 1);
        fixture.create_topic(&format!("{topic}.dlq"), 1);
        fixture.run(&["register"]).success();
        fixture.run(&["migrate"]).success();
        fixture
    }

    fn with(
        addresses: Addresses,
        runtime: tokio::runtime::Runtime,
        embedded: Option<(EmbeddedBroker, EmbeddedRegistry)>,
    ) -> Fixture {
        let prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let (schemas, topics) = (TempDir::new().unwrap(), Vec::new());
        let fixture = Fixture { prefix, schemas, topics, embedded, runtime, addresses };
        fixture.sql(&format!("CREATE SCHEMA \"{}\"", fixture.prefix));
        fixture
    }

    /// A corner with one stream, `readings`: its topic of one partition, subject and tables.
    pub fn with_stream(avsc: Json) -> Fixture {
        Fixture::with_partitions("readings", avsc, 1)
    }

    /// A corner with one stream, its topic of so many partitions, subject and tables.
    pub fn with_partitions(stream: &str, avsc: Json, partitions: i32) -> Fixture {
        Fixture::new().and_partitions(stream, avsc, partitions)
    }

    /// The corner with one stream more.
    pub fn and_partitions(mut self, stream: &str, avsc: Json, partitions: i32) -> Fixture {
        let topic = self.stream(stream, avsc);
        self.create_topic(&topic, partitions);
        self.run(&["register"]).success();
        self.run(&["migrate"]).success();
        self
    }

    /// Writes a contract; its topics get names of this test's own. Gives the topic.
    pub fn stream(&mut self, stream: &str, mut avsc: Json) -> String {
        let topic = format!("{}.{stream}", self.prefix);
        let attribute = avsc.as_object_mut().unwrap().entry("sluicegate").or_insert(json!({}));
        attribute["topic"] = json!(topic);
        attribute.as_object_mut().unwrap().remove("dead_letter_topic");
        let path = self.schemas.path().join(format!("{stream}.avsc"));
        std::fs::write(path, serde_json::to_string_pretty(&avsc).unwrap()).unwrap();
        self.topics.extend([topic.clone(), format!("{topic}.dlq")]);
        topic
    }

    /// Writes a schema as it is, whose stream and topic have one name.
    pub fn bare_stream(&mut self, stream: &str, avsc: &Json) {
        let path = self.schemas.path().join(format!("{stream}.avsc"));
        std::fs::write(path, avsc.to_string()).unwrap();
        self.topics.extend([stream.to_owned(), format!("{stream}.dlq")]);
    }

    /// The topic of `readings`.
    pub fn topic(&self) -> String {
        format!("{}.readings", self.prefix)
    }

    /// A topic for alerts of this test's own.
    #[allow(dead_code, reason = "tests/chaos does without")]
    pub fn alerts_topic(&mut self) -> String {
        let topic = format!("{}.alerts", self.prefix);
        self.topics.push(topic.clone());
        topic
    }

    /// The program, with this corner in its environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command
            .args(args)
            .envs(&self.addresses)
            .env("SLUICEGATE_SCHEMAS", self.schemas.path())
            .env("SLUICEGATE_GROUP_PREFIX", &self.prefix)
            .env("DATABASE_SCHEMA", &self.prefix)
            .current_dir(self.schemas.path());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&mut self.command(args))
    }

    /// Runs the pipeline until everything has landed.
    pub fn drain(&self) -> Ran {
        let ran = self.run(&["consume", "--exit-when-drained"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    }

    /// Runs it as another consumer group: everything is delivered again, from the oldest offset on.
    pub fn drain_again(&self) -> Ran {
        let mut command = self.command(&["consume", "--exit-when-drained"]);
        let ran = Ran::of(command.env("SLUICEGATE_GROUP_PREFIX", format!("{}.again", self.prefix)));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    }

    /// Starts the program and leaves it running; it is killed when the value is dropped.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, &[])
    }

    /// Like [`start`](Fixture::start), with more in its environment.
    pub fn start_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Running {
        let log = self.schemas.path().join(format!("{}.log", uuid::Uuid::new_v4()));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command(args);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::from(file));
        Running { child: command.spawn().unwrap(), log }
    }

    /// Creates a topic for a test that sends its own bytes.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        if let Some((broker, _)) = &self.embedded {
            let topic = Topic { name: topic.to_owned(), partitions, replication: 1 };
            return broker.create_topic(&topic).unwrap();
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let created = self.runtime.block_on(admin.create_topics(&[new], &options)).unwrap();
        created[0].as_ref().unwrap();
    }

    /// Changes one setting of a topic.
    #[allow(dead_code, reason = "tests/chaos does without")]
    pub fn configure_topic(&self, topic: &str, name: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let altered = admin.alter_configs([&config], &AdminOptions::new());
        self.runtime.block_on(altered).unwrap()[0].as_ref().unwrap();
    }

    /// Sends one record and waits until it is there.
    pub fn send(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.send_with_headers(topic, key, value, &[]);
    }

    /// Sends one record with headers.
    pub fn send_with_headers(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let mut owned = OwnedHeaders::new();
        for (key, value) in headers {
            owned = owned.insert(Header { key, value: *value });
        }
        let mut record = FutureRecord::to(topic).headers(owned);
        record.key = key;
        record.payload = value;
        self.send_records([record]);
    }

    /// Sends values without keys, in their order.
    pub fn send_values(&self, topic: &str, values: &[Option<Vec<u8>>]) {
        self.send_records(values.iter().map(|value| {
            let mut record = FutureRecord::to(topic);
            record.payload = value.as_deref();
            record
        }));
    }

    /// Sends records to partition 0, in their order, and waits until all are there.
    pub fn send_records<'r>(
        &self,
        records: impl IntoIterator<Item = FutureRecord<'r, [u8], [u8]>>,
    ) {
        let producer: FutureProducer = self.client().create().unwrap();
        let sent: Vec<_> = records
            .into_iter()
            .map(|record| producer.send_result(record.partition(0)).map_err(|(error, _)| error))
            .collect();
        for delivery in sent {
            self.runtime.block_on(delivery.unwrap()).unwrap().unwrap();
        }
    }

    /// The id under which the registry keeps what a topic's events are written with.
    pub fn schema_id(&self, topic: &str) -> u32 {
        let path = format!("subjects/{topic}-value/versions/latest");
        self.registry(|client, url| client.get(format!("{url}/{path}")))
    }

    /// Registers a schema under a subject of this test's own; gives its id.
    pub fn register(&self, name: &str, schema: &Json, kind: &str) -> u32 {
        let path = format!("subjects/{}.{name}/versions", self.prefix);
        let body = json!({"schema": schema.to_string(), "schemaType": kind});
        self.registry(|client, url| client.post(format!("{url}/{path}")).json(&body))
    }

    /// The id that the registry answers with.
    fn registry(
        &self,
        request: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> u32 {
        let request = request(&reqwest::Client::new(), self.address("SCHEMA_REGISTRY_URL"));
        let answer: Json = self.runtime.block_on(async {
            request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
        });
        u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
    }

    /// Every record of a topic, in the order of partitions and offsets.
    pub fn read_topic(&self, topic: &str) -> Vec<Read> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", &self.prefix)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut open = list.count();
        let mut records = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while open > 0 {
            assert!(Instant::now() < deadline, "the end of {topic} was not reached");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => records.push(Read::of(message.detach())),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => panic!("{error}"),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// Where each partition of a topic begins and ends.
    pub fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let consumer: BaseConsumer = self.client().set("group.id", &self.prefix).create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let count = metadata.topics()[0].partitions().len();
        let of = |partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        (0..i32::try_from(count).unwrap()).map(of).collect()
    }

    /// What retention does, at once: of what is on a topic's partition 0, nothing before an offset
    /// is there any more.
    #[allow(dead_code, reason = "tests/chaos does without")]
    pub fn expire(&self, topic: &str, before: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
        let deleted = admin.delete_records(&list, &AdminOptions::new());
        let deleted = self.runtime.block_on(deleted).unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
        assert_eq!(self.watermarks(topic)[0].0, before);
    }

    /// The offsets that a stream's consumer group has committed; none for a partition without.
    pub fn committed(&self, stream: &str) -> Vec<Option<i64>> {
        self.group(stream).committed()
    }

    /// Commits offsets, one a partition, in the name of a stream's consumer group.
    pub fn commit(&self, stream: &str, offsets: &[i64]) {
        let Group { consumer, topic, .. } = self.group(stream);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(offsets) {
            list.add_partition_offset(&topic, partition, Offset::Offset(*offset)).unwrap();
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    /// A stream's consumer group, to be asked more than once.
    pub fn group(&self, stream: &str) -> Group {
        let topic = format!("{}.{stream}", self.prefix);
        let consumer = self.client().set("group.id", &topic).create().unwrap();
        let last = i32::try_from(self.watermarks(&topic).len()).unwrap() - 1;
        Group { consumer, topic, last }
    }

    /// Sends rows through `produce`, as a file of JSON lines.
    pub fn produce(&self, stream: &str, rows: &[Json]) {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let file = self.schemas.path().join("rows.jsonl");
        std::fs::write(&file, lines).unwrap();
        self.run(&["produce", stream, "--from", file.to_str().unwrap()]).success();
    }

    /// Runs statements in this corner's schema.
    pub fn sql(&self, sql: &str) {
        self.try_sql(sql).unwrap();
    }

    /// Runs statements in this corner's schema, if they can be.
    pub fn try_sql(&self, sql: &str) -> Result<(), sqlx::Error> {
        self.runtime.block_on(async {
            let mut connection = self.connect().await;
            sqlx::raw_sql(sql).execute(&mut connection).await
        })?;
        Ok(())
    }

    /// Keeps the locks of a statement until what it gives is dropped.
    pub fn hold(&self, sql: &str) -> PgConnection {
        self.runtime.block_on(async {
            let mut connection = self.connect().await;
            let sql = format!("BEGIN; {sql}");
            sqlx::raw_sql(&sql).execute(&mut connection).await.unwrap();
            connection
        })
    }

    /// Lets no more than so many offsets be accounted for, give or take a batch, until what it gives
    /// is dropped: a transaction that comes after waits before its last statement, with all that it
    /// wrote still to be committed.
    pub fn hold_at(&self, offsets: i64) -> PgConnection {
        let prefix = &self.prefix;
        self.sql("CREATE TABLE IF NOT EXISTS gate ()");
        let gate = self.hold("LOCK TABLE gate");
        self.sql(&format!(
            "CREATE OR REPLACE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF (SELECT sum(next_offset - first_offset) FROM \"{prefix}\".ledger) >= {offsets} \
             THEN LOCK TABLE \"{prefix}\".gate IN ACCESS SHARE MODE; END IF; RETURN NULL; END $$; \
             CREATE OR REPLACE TRIGGER gate BEFORE UPDATE OF next_offset ON ledger \
             EXECUTE FUNCTION wait_at_gate()"
        ));
        gate
    }

    /// Waits until a transaction waits because of [`hold_at`](Fixture::hold_at).
    pub fn wait_until_held(&self) {
        let held =
            "SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted";
        self.wait_until(held, |held| held > 0);
    }

    /// The rows of a query, each as JSON.
    pub fn rows(&self, query: &str) -> Vec<Json> {
        let sql = format!("SELECT to_jsonb(row) FROM ({query}) AS row");
        self.runtime.block_on(async {
            let mut connection = self.connect().await;
            sqlx::query_scalar(&sql).fetch_all(&mut connection).await.unwrap()
        })
    }

    /// How Postgres goes about a statement, which it does not run.
    #[allow(dead_code, reason = "tests/chaos does without")]
    pub fn explain(&self, sql: &str) -> Json {
        let sql = format!("EXPLAIN (FORMAT JSON) {sql}");
        self.runtime.block_on(async {
            let mut connection = self.connect().await;
            sqlx::query_scalar(&sql).fetch_one(&mut connection).await.unwrap()
        })
    }

    /// The one number that a query gives.
    pub fn number(&self, query: &str) -> i64 {
        let sql = format!("SELECT ({query})::bigint");
        self.runtime.block_on(async {
            let mut connection = self.connect().await;
            sqlx::query_scalar(&sql).fetch_one(&mut connection).await.unwrap()
        })
    }

    /// What every partition's account adds up to.
    pub fn ledger(&self) -> Ledger {
        let row = &self.rows(
            "SELECT coalesce(sum(inserted), 0) AS inserted, coalesce(sum(duplicate), 0) AS duplicate, \
             coalesce(sum(dead_lettered), 0) AS dead_lettered, coalesce(sum(skipped), 0) AS skipped, \
             coalesce(sum(next_offset - first_offset), 0) AS offsets FROM ledger",
        )[0];
        let of = |name: &str| row[name].as_i64().unwrap();
        Ledger {
            inserted: of("inserted"),
            duplicate: of("duplicate"),
            dead_lettered: of("dead_lettered"),
            skipped: of("skipped"),
            offsets: of("offsets"),
        }
    }

    /// Waits until a query gives a number that will do.
    #[track_caller]
    pub fn wait_until(&self, query: &str, will_do: impl Fn(i64) -> bool) -> i64 {
        let sql = format!("SELECT ({query})::bigint");
        let mut connection = self.runtime.block_on(self.connect());
        let mut number = 0;
        let found = poll(|| {
            let asked = sqlx::query_scalar(&sql).fetch_one(&mut connection);
            number = self.runtime.block_on(asked).unwrap();
            will_do(number).then_some(number)
        });
        found.unwrap_or_else(|| panic!("{query} still gives {number}"))
    }

    /// What a program shows that was started with `--metrics-listen`; nothing while it does not answer.
    #[allow(dead_code, reason = "tests/chaos does without")]
    pub fn metrics(&self, address: &str) -> String {
        let text = async { reqwest::get(format!("http://{address}/metrics")).await?.text().await };
        self.runtime.block_on(text).unwrap_or_default()
    }

    /// A Kafka client of the test's own.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address("KAFKA_BROKERS"));
        config
    }

    /// Where a service is.
    pub fn address(&self, name: &str) -> &str {
        &self.addresses[name]
    }

    async fn connect(&self) -> PgConnection {
        let url = self.address("DATABASE_URL");
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = format!("SET search_path TO \"{}\"", self.prefix);
        sqlx::raw_sql(&sql).execute(&mut connection).await.unwrap();
        connection
    }
}

/// Leaves no schema, topic, subject or consumer group behind, but for a group one of whose members
/// was killed, which Kafka deletes in its own time. A test that failed leaves its corner to be
/// looked at.
impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.sql(&format!("DROP SCHEMA \"{}\" CASCADE", self.prefix));
        if self.embedded.is_some() {
            return;
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        // topics that the test never needed are not there to delete
        _ = self.runtime.block_on(admin.delete_topics(&topics, &AdminOptions::new()));
        let groups = admin.inner().fetch_group_list(None, PATIENCE).unwrap();
        let names = groups.groups().iter().map(GroupInfo::name);
        let ours: Vec<&str> = names.filter(|name| name.starts_with(&self.prefix)).collect();
        // one with a member that was killed is not empty yet
        _ = self.runtime.block_on(admin.delete_groups(&ours, &AdminOptions::new()));
        self.runtime.block_on(self.delete_subjects()).unwrap();
    }
}

impl Fixture {
    async fn delete_subjects(&self) -> reqwest::Result<()> {
        let url = format!("{}/subjects", self.address("SCHEMA_REGISTRY_URL"));
        let client = reqwest::Client::new();
        let subjects: Vec<String> = client.get(&url).send().await?.json().await?;
        for subject in subjects.iter().filter(|subject| subject.starts_with(&self.prefix)) {
            client.delete(format!("{url}/{subject}")).send().await?.error_for_status()?;
        }
        Ok(())
    }
}

/// A stream's consumer group, looked at from outside.
pub struct Group {
    consumer: BaseConsumer,
    topic: String,
    /// The topic's last partition.
    last: i32,
}

impl Group {
    /// The offsets that it has committed; none for a partition without.
    pub fn committed(&self) -> Vec<Option<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.last);
        let committed = self.consumer.committed_offsets(list, PATIENCE).unwrap();
        let mut elements = committed.elements();
        elements.sort_by_key(|element| element.partition());
        elements.iter().map(|element| element.offset().to_raw().filter(|raw| *raw >= 0)).collect()
    }

    /// The ids that its members have now; one that joins anew gets another.
    pub fn members(&self) -> Vec<String> {
        let groups = self.consumer.fetch_group_list(Some(&self.topic), PATIENCE).unwrap();
        let members = groups.groups().iter().flat_map(|group| group.members());
        members.map(|member| member.id().to_owned()).collect()
    }
}

/// Asks again and again, with time for others in between, until there is an answer; none if there
/// is none for too long.
pub fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// Waits for a process to end by itself; one that does not is killed.
pub fn ended(child: &mut Child) -> Option<ExitStatus> {
    let status = poll(|| child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    status
}

/// The ledger's sums over all partitions.
#[derive(Debug, PartialEq, Eq)]
pub struct Ledger {
    pub inserted: i64,
    pub duplicate: i64,
    pub dead_lettered: i64,
    pub skipped: i64,
    pub offsets: i64,
}

/// A run of the program that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> Ran {
        let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let [stdout, stderr] = files.each_ref().map(|file| Stdio::from(file.try_clone().unwrap()));
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        let status = ended(&mut child);
        let [stdout, stderr] = files.map(|mut file: File| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        });
        let Some(status) = status else { panic!("{command:?} does not end: {stdout}{stderr}") };
        let Some(code) = status.code() else { panic!("{command:?}: {status}: {stdout}{stderr}") };
        Ran { code, stdout, stderr }
    }

    /// Fails the test unless the run ended well; gives what it printed.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Fails the test unless the run failed with one clear line; gives the line.
    #[track_caller]
    pub fn one_clear_error(self) -> String {
        assert_ne!(self.code, 0, "{}", self.stdout);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let mut lines = self.stderr.lines().filter(|line| line.starts_with("error: "));
        let line = lines.next().unwrap_or_else(|| panic!("no error line in {}", self.stderr));
        assert_eq!(lines.next(), None, "{}", self.stderr);
        line.to_owned()
    }
}

/// A run of the program that goes on.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Where it serves HTTP, as it has logged; waits until it has.
    #[allow(dead_code, reason = "tests/chaos does without")]
    #[track_caller]
    pub fn address(&mut self) -> String {
        self.wait_for_log("serving http://");
        let log = self.log();
        let (_, rest) = log.split_once("serving http://").unwrap();
        rest.split('/').next().unwrap().to_owned()
    }

    /// SIGKILL: nothing is finished, nothing is committed.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.ask_to_end();
        self.wait()
    }

    /// The process's id.
    #[allow(dead_code, reason = "tests/chaos needs it")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    #[allow(dead_code, reason = "tests/chaos needs it")]
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGTERM alone.
    pub fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// A signal, such as STOP or CONT.
    pub fn signal(&self, signal: &str) {
        let args = [format!("-{signal}"), self.id().to_string()];
        assert!(Command::new("kill").args(args).status().unwrap().success());
    }

    /// Waits for its own end; gives the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let Some(status) = ended(&mut self.child) else { panic!("no end: {}", self.log()) };
        status.code()
    }

    /// Waits until it has logged something.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str) {
        self.wait_for_line(text, |line| line.contains(text));
    }

    /// Waits until it has logged a line of a kind.
    #[track_caller]
    pub fn wait_for_line(&mut self, what: &str, is_it: impl Fn(&str) -> bool) {
        let log = self.log.clone();
        self.wait_for(what, || std::fs::read_to_string(&log).unwrap().lines().any(&is_it));
    }

    /// Waits until something is so, while it runs.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let is_so = poll(|| {
            // in this order, so that what it did before it ended counts
            let ended = self.child.try_wait().unwrap().is_some();
            let is_so = is_so();
            (is_so || ended).then_some(is_so)
        });
        assert_eq!(is_so, Some(true), "no {what}: {}", self.log());
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Read {
    fn of(message: OwnedMessage) -> Read {
        let headers = message.headers().map(|headers| {
            let header = |header: Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            };
            headers.iter().map(header).collect()
        });
        Read {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        value.clone().map(|value| String::from_utf8(value).unwrap())
    }
}

/// What says where the services are.
const ADDRESSES: [&str; 3] = ["KAFKA_BROKERS", "SCHEMA_REGISTRY_URL", "DATABASE_URL"];

/// An address that `make test` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make test`"))
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An event as a producer of any language sends it.
pub fn framed(schema_id: u32, schema: &Json, event: Json) -> Vec<u8> {
    let schema = Schema::parse(schema).unwrap();
    let event = Value::try_from(event).unwrap().resolve(&schema).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    [&[0], &schema_id.to_be_bytes()[..], &writer.write_value_to_vec(event).unwrap()].concat()
}

/// A contract of the repository's own.
pub fn contract(stream: &str) -> Json {
    let text = std::fs::read_to_string(repository(&format!("schemas/{stream}.avsc"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A small contract with a rule, a label and an aggregate.
pub fn readings() -> Json {
    json!({
        "type": "record", "name": "Reading", "namespace": "test",
        "sluicegate": {
            "key": "device", "time": "ts",
            "params": {"limit": 80.0},
            "rules": [{"name": "value_is_positive", "check": "message.value >= 0.0"}],
            "labels": [{"name": "is_high", "type": "boolean", "value": "message.value > params.limit"}],
            "aggregates": [{"every": "1m", "by": ["device"], "of": ["value"]}],
        },
        "fields": [
            {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "device", "type": "string"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "value", "type": "double"},
        ],
    })
}
