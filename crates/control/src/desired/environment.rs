//! The environment of a container (Kubernetes' "Define Dependent Environment Variables").

use heddle_api::kubernetes as k8s;
use heddle_translate::workloads::COMPLETION_INDEX;

use super::Surroundings;

/// The variables in order; a later one of the same name wins.
pub(super) fn resolve(
    container: &k8s::Container,
    surroundings: &Surroundings<'_>,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    for from in &container.env_from {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(map) =
            from.config_map_ref.as_ref().and_then(|r| surroundings.config_map(&r.name))
        {
            for (key, value) in &map.spec.data {
                set(&mut env, format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(secret) = from.secret_ref.as_ref().and_then(|r| surroundings.secret(&r.name)) {
            for (key, value) in secret_texts(&secret.spec) {
                set(&mut env, format!("{prefix}{key}"), value);
            }
        }
    }
    for variable in &container.env {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(substitute(value, &env)),
            (None, Some(from)) => value_from(from, surroundings),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut env, variable.name.clone(), value);
        }
    }
    // A pod of an indexed job is told which one it is.
    if let Some(index) = surroundings.pod.meta.annotations.get(COMPLETION_INDEX) {
        set(&mut env, "JOB_COMPLETION_INDEX".to_owned(), index.clone());
    }
    env
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(own, _)| *own != name);
    env.push((name, value));
}

fn value_from(from: &k8s::EnvVarSource, surroundings: &Surroundings<'_>) -> Option<String> {
    if let Some(reference) = &from.config_map_key_ref {
        let map = surroundings.config_map(&reference.name)?;
        return map.spec.data.get(&reference.key).cloned();
    }
    if let Some(reference) = &from.secret_key_ref {
        let secret = surroundings.secret(&reference.name)?;
        let mut texts = secret_texts(&secret.spec);
        return texts.find_map(|(key, value)| (key == reference.key).then_some(value));
    }
    from.field_ref.as_ref().and_then(|field| pod_field(&field.field_path, surroundings))
}

/// A field of the pod by its path (the downward API).
pub(super) fn pod_field(path: &str, surroundings: &Surroundings<'_>) -> Option<String> {
    let meta = &surroundings.pod.meta;
    let quoted = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    if let Some(key) = quoted("metadata.labels['") {
        return meta.labels.get(key).cloned();
    }
    if let Some(key) = quoted("metadata.annotations['") {
        return meta.annotations.get(key).cloned();
    }
    Some(match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "spec.serviceAccountName" => surroundings.service_account().to_owned(),
        "spec.nodeName" => "local".to_owned(),
        "status.podIP" => surroundings.addresses.first().cloned().unwrap_or_default(),
        "status.podIPs" => surroundings.addresses.join(","),
        "status.hostIP" | "status.hostIPs" => "127.0.0.1".to_owned(),
        _ => return None,
    })
}

/// The values of a secret that are texts; `stringData` wins.
pub(super) fn secret_texts(secret: &k8s::Secret) -> impl Iterator<Item = (String, String)> {
    let data = secret.data.iter().filter(|(key, _)| !secret.string_data.contains_key(*key));
    let data = data
        .filter_map(|(key, value)| Some((key.clone(), String::from_utf8(value.0.clone()).ok()?)));
    data.chain(secret.string_data.iter().map(|(key, value)| (key.clone(), value.clone())))
}

/// Replaces `$(NAME)` by earlier variables. `$$` stands for a dollar sign; a reference to nothing stays as it is.
pub(super) fn substitute(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let value = reference.and_then(|(name, after)| {
            let (_, value) = env.iter().find(|(own, _)| own == name)?;
            Some((value, after))
        });
        rest = if let Some((value, after)) = value {
            out.push_str(value);
            after
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        let env = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$", "$"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("Ü$(A)ß", "Ü1ß"),
        ] {
            assert_eq!(substitute(text, &env), expected, "{text}");
        }
    }
}
