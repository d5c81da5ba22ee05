//! Namespaces and mounts.

use std::net::TcpListener;
use std::path::Path;

use heddle_net::namespace::{self, NetworkNamespace};
use heddle_net::netlink::RouteSocket;
use heddle_net::socket::SocketFactory;

use crate::harness::{Test, block_on};

pub(crate) const TESTS: &[Test] = &[
    ("namespace::the_caller_is_user_zero_with_one_mapping", user_zero),
    ("namespace::closures_run_inside_and_the_thread_comes_back", closures),
    ("namespace::sockets_stay_in_their_namespace", sockets),
    ("namespace::a_panic_inside_brings_the_thread_back", panics),
    ("namespace::paths_that_are_no_namespace_are_refused", refused),
    ("namespace::mounts_are_private_and_read_only_where_asked", mounts),
];

fn user_zero() {
    assert_eq!(rustix::process::geteuid().as_raw(), 0);
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(map.split_whitespace().last(), Some("1"), "{map}");
    let groups = std::fs::read_to_string("/proc/self/setgroups").unwrap();
    assert_eq!(groups.trim(), "deny");
}

fn closures() {
    let here = NetworkNamespace::current().unwrap();
    let other = NetworkNamespace::create().unwrap();
    assert_ne!(here, other);
    let seen = other.run(|| NetworkNamespace::current().unwrap()).unwrap();
    assert_eq!(seen, other);
    let seen = other.scoped(|| NetworkNamespace::current().unwrap()).unwrap();
    assert_eq!(seen, other);
    assert_eq!(NetworkNamespace::current().unwrap(), here);
    let own = NetworkNamespace::of_process(std::process::id()).unwrap();
    assert_eq!(own, here);
}

fn sockets() {
    let other = NetworkNamespace::create().unwrap();
    RouteSocket::open_in(&other).unwrap().bring_up_loopback().unwrap();
    RouteSocket::open().unwrap().bring_up_loopback().unwrap();
    let listener = other.scoped(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    block_on(async {
        let timeout = std::time::Duration::from_secs(5);
        SocketFactory::here().connect(address, timeout).await.unwrap_err();
        SocketFactory::in_namespace(other).connect(address, timeout).await.unwrap();
    });
}

fn panics() {
    let here = NetworkNamespace::current().unwrap();
    let other = NetworkNamespace::create().unwrap();
    let result = std::panic::catch_unwind(|| other.scoped(|| panic!("on purpose")));
    assert!(result.is_err());
    assert_eq!(NetworkNamespace::current().unwrap(), here);
}

fn refused() {
    NetworkNamespace::open(Path::new("/proc/self/ns/nothing")).unwrap_err();
    NetworkNamespace::of_process(u32::MAX).unwrap_err();
    let file = NetworkNamespace::open(Path::new("/proc/self/status")).unwrap();
    file.run(|| ()).unwrap_err();
    let mount = NetworkNamespace::open(Path::new("/proc/self/ns/mnt")).unwrap();
    mount.scoped(|| ()).unwrap_err();
}

fn mounts() {
    let folder = tempfile::tempdir().unwrap();
    let (covered, source) = (folder.path().join("covered"), folder.path().join("source"));
    std::fs::create_dir(&covered).unwrap();
    std::fs::create_dir(&source).unwrap();
    std::fs::write(covered.join("secret"), "x").unwrap();
    std::fs::write(source.join("file"), "y").unwrap();
    namespace::mount_tmpfs(&covered, 1 << 20).unwrap();
    assert!(!covered.join("secret").exists());
    std::fs::write(covered.join("big"), vec![0; 2 << 20]).unwrap_err();
    std::fs::create_dir(covered.join("shown")).unwrap();
    namespace::bind_mount(&source, &covered.join("shown"), true).unwrap();
    assert_eq!(std::fs::read_to_string(covered.join("shown/file")).unwrap(), "y");
    std::fs::write(covered.join("shown/file"), "z").unwrap_err();
    std::fs::write(source.join("file"), "z").unwrap();
    let error = namespace::bind_mount(&source, &folder.path().join("absent"), false).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
