//! Files and directories that a container sees.

use heddle_api::kubernetes as k8s;
use heddle_proto::node::{MountedDirectory, MountedFile};

use super::{Surroundings, environment};

/// Kubernetes' default mode of files in volumes.
const MODE_DEFAULT: u32 = 0o644;

/// Files of ConfigMaps and Secrets.
pub(super) fn files(
    container: &k8s::Container,
    surroundings: &Surroundings<'_>,
) -> Vec<MountedFile> {
    let mut files = Vec::new();
    for mount in &container.volume_mounts {
        let Some(volume) = volume(mount, surroundings) else { continue };
        let mut content = Vec::new();
        if let Some(source) = &volume.config_map {
            content.extend(config_map_files(source, None, surroundings));
        }
        if let Some(source) = &volume.secret {
            content.extend(secret_files(source, surroundings));
        }
        if let Some(projected) = &volume.projected {
            for source in &projected.sources {
                if let Some(map) = &source.config_map {
                    content.extend(config_map_files(map, projected.default_mode, surroundings));
                }
            }
        }
        for (path, bytes, mode) in content {
            if let Some(path) = place(mount, &path, surroundings) {
                files.push(MountedFile { path, content: bytes, mode });
            }
        }
    }
    files
}

/// Directories that are empty at first, or the host's.
pub(super) fn directories(
    container: &k8s::Container,
    surroundings: &Surroundings<'_>,
) -> Vec<MountedDirectory> {
    let mounted = container.volume_mounts.iter().filter_map(|mount| {
        let volume = volume(mount, surroundings)?;
        let host_path = match (&volume.host_path, &volume.empty_dir) {
            (Some(host), _) => host.path.clone(),
            (None, Some(_)) => String::new(),
            (None, None) => return None,
        };
        Some(MountedDirectory {
            path: mount.mount_path.clone(),
            volume: volume.name.clone(),
            host_path,
            read_only: mount.read_only.unwrap_or(false),
        })
    });
    mounted.collect()
}

fn volume<'a>(
    mount: &k8s::VolumeMount,
    surroundings: &Surroundings<'a>,
) -> Option<&'a k8s::Volume> {
    surroundings.pod.spec.volumes.iter().find(|volume| volume.name == mount.name)
}

type Files = Vec<(String, Vec<u8>, u32)>;

fn config_map_files(
    source: &k8s::ConfigMapVolume,
    mode: Option<u32>,
    surroundings: &Surroundings<'_>,
) -> Files {
    let Some(map) = surroundings.config_map(&source.name) else { return Vec::new() };
    let texts = map.spec.data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let bytes = map.spec.binary_data.iter().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    selected(texts.chain(bytes).collect(), &source.items, source.default_mode.or(mode))
}

fn secret_files(source: &k8s::SecretVolume, surroundings: &Surroundings<'_>) -> Files {
    let Some(secret) = surroundings.secret(&source.secret_name) else { return Vec::new() };
    let spec = &secret.spec;
    let bytes = spec.data.iter().filter(|(key, _)| !spec.string_data.contains_key(*key));
    let bytes = bytes.map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    let texts = spec.string_data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    selected(bytes.chain(texts).collect(), &source.items, source.default_mode)
}

/// All keys as files, or those that are listed.
fn selected(
    contents: Vec<(String, Vec<u8>)>,
    items: &[k8s::KeyToPath],
    default_mode: Option<u32>,
) -> Files {
    let default_mode = default_mode.unwrap_or(MODE_DEFAULT);
    if items.is_empty() {
        return contents.into_iter().map(|(key, bytes)| (key, bytes, default_mode)).collect();
    }
    let listed = items.iter().filter_map(|item| {
        let (_, bytes) = contents.iter().find(|(key, _)| *key == item.key)?;
        Some((item.path.clone(), bytes.clone(), item.mode.unwrap_or(default_mode)))
    });
    listed.collect()
}

/// Where a file of a volume appears. With `subPath` only that file does, at the place of the mount itself, or what is
/// below that directory.
fn place(mount: &k8s::VolumeMount, path: &str, surroundings: &Surroundings<'_>) -> Option<String> {
    // A file must stay inside its volume.
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let base = mount.mount_path.trim_end_matches('/');
    let sub_path = mount.sub_path.clone().or_else(|| {
        let fields = |name: &str| environment::pod_field(name, surroundings);
        let env: Vec<_> = [("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace")]
            .into_iter()
            .filter_map(|(name, field)| Some((name.to_owned(), fields(field)?)))
            .collect();
        mount.sub_path_expr.as_ref().map(|text| environment::substitute(text, &env))
    });
    match sub_path.as_deref().map(|sub| sub.trim_matches('/')).filter(|sub| !sub.is_empty()) {
        None => Some(format!("{base}/{path}")),
        Some(sub) if sub == path => Some(mount.mount_path.clone()),
        Some(sub) => {
            let below = path.strip_prefix(sub)?.strip_prefix('/')?;
            Some(format!("{base}/{below}"))
        }
    }
}
