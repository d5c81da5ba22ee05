//! What a mesh must do.

use crate::mesh::{Mesh, User, server, workload};

type Test = (&'static str, fn(User));

pub(crate) const ALL: &[Test] =
    &[("two_workloads_reach_each_other_by_name", two_workloads_reach_each_other_by_name)];

fn two_workloads_reach_each_other_by_name(user: User) {
    let mesh = Mesh::start(user);
    mesh.want(vec![server("server", 10, 80, "hello"), workload("client", 11, &["sleep", "1000"])]);
    mesh.until_ready("server");
    mesh.until_ready("client");
    let (code, text) = mesh.exec("client", &["heddle", "fetch", "server:80"]);
    assert_eq!((code, text.as_str()), (0, "hello\n"));
}
