//! Certificates for the peers: an authority and two leaves with SPIFFE names, as a mesh would make them. heddle makes its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// An authority and a leaf for each side, P-256, valid for a day; `NAME.pem` has certificate and key, as HAProxy wants
/// them.
pub(super) fn make(folder: &Path) -> Result<()> {
    let script = r"
set -e
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 1 -subj /O=bench -addext keyUsage=critical,keyCertSign
for name in client server; do
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $name.key -out $name.csr -subj /O=bench
  printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=critical,URI:spiffe://cluster.local/ns/default/sa/%s,DNS:%s.default\n' $name $name > $name.ext
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -extfile $name.ext -out $name.crt
  cat $name.crt $name.key > $name.pem
done";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .output()
        .context("cannot run openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
