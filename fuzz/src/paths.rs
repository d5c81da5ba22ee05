//! Paths: normalising twice changes nothing more, and nothing is left that a server could resolve.

use heddle_ir::inbound::PathNormalization;

pub(crate) const SEEDS: &[&[u8]] =
    &[b"/admin/..;/x", b"/a/../b/./c//d", b"/%2e%2e/%2F%5c\\x", b"/%61dmin%00", b"/..", b"*"];

pub(crate) fn normalize(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    for mode in [
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes,
    ] {
        let Ok(changed) = heddle_wire::path::normalize(path, mode) else { continue };
        let normal = changed.as_deref().unwrap_or(path);
        if mode == PathNormalization::None || !path.starts_with('/') {
            assert_eq!(normal, path, "a path was changed that must stay");
            continue;
        }
        assert!(normal.starts_with('/'), "{path:?} became {normal:?}");
        let mut segments = normal.split('/').skip(1);
        assert!(
            !segments.any(|segment| matches!(segment, "." | "..")),
            "{path:?} became {normal:?}, which has a dot segment"
        );
        if mode != PathNormalization::Base {
            assert!(!normal.contains("//"), "{path:?} became {normal:?}");
        }
        let again = heddle_wire::path::normalize(normal, mode);
        assert_eq!(again, Ok(None), "{path:?} became {normal:?}, which is not normal");
    }
}
