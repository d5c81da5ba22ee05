use std::os::unix::fs::PermissionsExt;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        group: "networking.istio.io".into(),
        kind: "VirtualService".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn put(name: &str, digest: &str) -> Change {
    Change {
        at_ms: 7,
        sources: vec![SourceText {
            path: "a.yaml".into(),
            folder: "/x".into(),
            text: format!("name: {name}\n# {digest}"),
        }],
        put: vec![Put {
            key: key(name),
            source: 0,
            index: 0,
            digest: digest.into(),
            new_uid: format!("uid of {name} {digest}"),
            created_at_ms: 7,
        }],
        ..Change::default()
    }
}

fn delete(name: &str) -> Change {
    Change { at_ms: 9, delete: vec![key(name)], ..Change::default() }
}

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), None).unwrap()
    }
}

#[test]
fn objects_survive_with_their_texts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert_eq!(store.contents().unwrap(), Contents::default());
    assert_eq!(store.commit(&put("a", "1")).unwrap().changes[0].change, ChangeKind::Created);
    store.commit(&put("b", "1")).unwrap();
    assert_eq!(store.commit(&put("a", "2")).unwrap().changes[0].change, ChangeKind::Configured);
    drop(store);
    let contents = fixture.open().contents().unwrap();
    assert_eq!(contents.revision, 3);
    let record = &contents.objects[&key("a")];
    assert_eq!((record.generation, record.revision), (2, 3));
    assert_eq!(record.uid, "uid of a 1");
    assert_eq!(contents.sources[&record.source].text, "name: a\n# 2");
    assert_eq!(contents.sources.len(), 2);
}

#[test]
fn an_object_that_did_not_change_only_moves_to_its_new_text() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.commit(&put("a", "1")).unwrap();
    let mut moved = put("a", "1");
    moved.sources[0].path = "b.yaml".into();
    let step = store.commit(&moved).unwrap();
    assert_eq!((step.revision, step.changes.len()), (1, 0));
    let contents = store.contents().unwrap();
    let record = &contents.objects[&key("a")];
    assert_eq!((record.generation, record.revision), (1, 1));
    assert_eq!(contents.sources[&record.source].path, "b.yaml");
}

#[test]
fn history_says_what_was_and_keeps_its_texts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.commit(&put("a", "1")).unwrap();
    store.commit(&delete("a")).unwrap();
    assert!(store.commit(&delete("a")).unwrap().changes.is_empty());
    let history = store.history(10).unwrap();
    assert_eq!(history.iter().map(|step| step.revision).collect::<Vec<_>>(), [2, 1]);
    let before = history[0].changes[0].before.as_ref().unwrap();
    assert_eq!(store.source(before.source).unwrap().unwrap().text, "name: a\n# 1");
    assert!(store.contents().unwrap().sources.is_empty());
}

#[test]
fn history_is_bounded_and_lets_go_of_texts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for number in 0..REVISIONS_MAX + 10 {
        store.commit(&put("a", &number.to_string())).unwrap();
    }
    assert_eq!(store.history(usize::MAX).unwrap().len() as u64, REVISIONS_MAX);
    assert_eq!(store.source(SourceId(0)).unwrap(), None);
    assert!(store.source(SourceId(REVISIONS_MAX)).unwrap().is_some());
}

#[test]
fn documents_and_secrets_survive() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put_document("allocation", b"{}").unwrap();
    store.put_secret("root-1", b"key").unwrap();
    store.put_secret("root-2", b"key").unwrap();
    store.remove_secret("root-2").unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.document("allocation").unwrap().as_deref(), Some(&b"{}"[..]));
    assert_eq!(store.document("other").unwrap(), None);
    let secrets = store.secrets().unwrap();
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["root-1"]);
    assert_eq!(**secrets["root-1"], *b"key");
}

#[test]
fn the_file_is_its_owners_alone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mode = std::fs::metadata(fixture.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(Store::open(&fixture.path(), None), Err(StoreError::InUse { .. })));
    drop(store);
}

#[test]
fn a_file_that_is_not_a_store_is_damaged_and_left_alone() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path(), b"something else entirely").unwrap();
    let error = Store::open(&fixture.path(), None).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.hint().contains("move the file away"));
    assert_eq!(std::fs::read(fixture.path()).unwrap(), b"something else entirely");
}

#[test]
fn a_damaged_record_is_said_to_be_damaged() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store
        .write(|write| {
            write.open_table(OBJECTS).unwrap().insert(&b"{"[..], &b"{}"[..]).unwrap();
            Ok(())
        })
        .unwrap();
    assert!(matches!(store.contents(), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_file_of_a_newer_heddle_is_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store
        .write(|write| {
            write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
            Ok(())
        })
        .unwrap();
    drop(store);
    assert!(matches!(Store::open(&fixture.path(), None), Err(StoreError::Newer { .. })));
}

#[test]
fn what_is_too_large_is_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut change = put("a", "1");
    change.sources[0].text = " ".repeat(TEXT_BYTES_MAX + 1);
    assert!(matches!(store.commit(&change), Err(StoreError::TooLarge { .. })));
    assert_eq!(store.contents().unwrap(), Contents::default());
}

#[test]
fn a_full_disk_is_named() {
    let path = Path::new("/state/store");
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = StoreError::database(path, redb::Error::Io(full()));
    assert!(matches!(error, StoreError::Full { .. }));
    assert_eq!(error.to_string(), "no space left for the store /state/store");
}

#[test]
fn a_missing_directory_is_an_error_with_its_cause() {
    let fixture = Fixture::new();
    let error = Store::open(&fixture.path().join("x"), None).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }));
    assert!(std::error::Error::source(&error).is_some());
}

/// A file on a disk that is full when the switch says so.
#[derive(Debug)]
struct Disk {
    file: File,
    is_full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> std::io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.file.write_all_at(data, offset)
    }
}

#[test]
fn after_room_was_made_on_a_full_disk_the_store_goes_on() {
    let fixture = Fixture::new();
    let is_full = Arc::new(AtomicBool::new(false));
    let switch = is_full.clone();
    let open = move |path: &Path| {
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let disk = Disk { file: options.unwrap(), is_full: switch.clone() };
        Database::builder().create_with_backend(disk).map_err(|e| StoreError::database(path, e))
    };
    let store = Store::open_with(&fixture.path(), None, Box::new(open)).unwrap();
    store.commit(&put("a", "1")).unwrap();
    is_full.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let error = store.commit(&put("a", "2")).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    }
    is_full.store(false, Ordering::Relaxed);
    assert_eq!(store.contents().unwrap().objects[&key("a")].generation, 1);
    store.commit(&put("a", "2")).unwrap();
    assert_eq!(store.contents().unwrap().objects[&key("a")].generation, 2);
}

#[test]
fn a_kill_loses_nothing_that_was_confirmed() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    // The child is this test in another process, which is told where by its environment.
    if let Some(path) = std::env::var_os("HEDDLE_STORE_KILL_TEST") {
        let store = Store::open(Path::new(&path), None).unwrap();
        for number in 0_u64.. {
            let step = store.commit(&put("a", &number.to_string())).unwrap();
            println!("confirmed {}", step.revision);
        }
    }
    let fixture = Fixture::new();
    let mut last = 0;
    for _ in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::a_kill_loses_nothing_that_was_confirmed",
                "--nocapture",
            ])
            .env("HEDDLE_STORE_KILL_TEST", fixture.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut revisions = lines.filter_map(|line| {
            line.split_once("confirmed ").map(|(_, n)| n.parse::<u64>().unwrap())
        });
        last = revisions.by_ref().nth(20).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        last = revisions.last().unwrap_or(last);
        let contents = fixture.open().contents().unwrap();
        assert!(contents.revision >= last, "{} of {last}", contents.revision);
        let record = &contents.objects[&key("a")];
        assert_eq!(record.revision, contents.revision);
        assert!(contents.sources[&record.source].text.ends_with(&record.digest));
    }
    assert!(last > 100);
}

/// Turns every byte over, and refuses another name.
struct Turned;

impl Seal for Turned {
    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        let turned = plain.iter().map(|byte| !byte);
        Ok(name.bytes().chain([0]).chain(turned).collect())
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let rest = sealed.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(&[0]));
        let rest = rest.ok_or("another name")?;
        Ok(Zeroizing::new(rest.iter().map(|byte| !byte).collect()))
    }
}

#[test]
fn texts_and_keys_are_sealed_and_those_of_before_are_still_read() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.commit(&put("old", "1")).unwrap();
    store.put_secret("old", b"old key").unwrap();
    drop(store);
    let open = || Store::open(&fixture.path(), Some(Box::new(Turned))).unwrap();
    let store = open();
    store.commit(&put("new", "hush")).unwrap();
    store.put_secret("new", b"hush hush").unwrap();
    drop(store);
    let bytes = std::fs::read(fixture.path()).unwrap();
    assert!(!bytes.windows(9).any(|window| window == b"hush hush"));
    assert!(!bytes.windows(6).any(|window| window == b"# hush"));
    let store = open();
    let contents = store.contents().unwrap();
    assert_eq!((contents.objects.len(), contents.sources.len()), (2, 2));
    let secrets = store.secrets().unwrap();
    assert_eq!(secrets["old"].as_slice(), b"old key");
    assert_eq!(secrets["new"].as_slice(), b"hush hush");
    drop(store);
    let blind = Store::open(&fixture.path(), None).unwrap();
    assert!(matches!(blind.secrets(), Err(StoreError::Damaged { .. })));
}
