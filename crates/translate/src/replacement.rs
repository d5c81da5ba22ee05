//! What an object takes away by replacing the one of its name (API.md 11.2 row 2): a cut-over that is applied without the
//! `gateways:` of before unbinds the host from its gateway, and nothing else says so.

use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_diag::{Diagnostic, Origin};

use crate::client::{Gateways, MESH};
use crate::codes;
use crate::gateway_api::route::Route;

/// What the new form of an object is no longer bound to, though the former one was.
pub fn losses(former: &AnyObject, new: &AnyObject) -> Vec<Diagnostic> {
    let (before, after) = (bindings(former), bindings(new));
    let lost = before.into_iter().filter(|(name, _)| !after.iter().any(|(kept, _)| kept == name));
    lost.map(|(name, place)| {
        let message = format!(
            "by this update the binding to {name} is gone: requests there find no route of it"
        );
        Diagnostic::warning(codes::BINDING_LOST, new.origin().clone(), message)
            .related("it was bound here", place)
            .hint("write the binding into the new form too, if the requests are to go on")
    })
    .collect()
}

/// Where the routes of an object are in force, in words, and where that is written.
fn bindings(object: &AnyObject) -> Vec<(Arc<str>, Origin)> {
    if let AnyObject::VirtualService(object) = object {
        let spec = &object.spec;
        let full = Gateways::new(&spec.gateways, &object.meta.namespace).full();
        let named = full.into_iter().enumerate().map(|(index, name)| {
            let origin = object.origin_of_item(spec.at, "gateways", index);
            if *name == *MESH {
                ("the proxies inside the mesh".into(), origin)
            } else {
                (format!("the Gateway `{name}`").into(), origin)
            }
        });
        let mesh = ("the proxies inside the mesh".into(), object.origin().clone());
        return named.chain(spec.gateways.is_empty().then_some(mesh)).collect();
    }
    let Some(route) = Route::of(object) else { return Vec::new() };
    let bound = route.parents().iter().map(|parent| {
        let key = route.parent_key(parent);
        (format!("the {} `{}`", key.kind, key.name).into(), route.written().origin_at(parent.at))
    });
    bound.collect()
}

#[cfg(test)]
mod tests {
    use heddle_api::Reader;

    use super::*;

    fn lost(former: &str, new: &str) -> Vec<String> {
        let object = |text: &str| {
            let text = format!("apiVersion: {text}");
            Reader::default().read_file("f.yaml", text.as_bytes()).resources.remove(0)
        };
        losses(&object(former), &object(new)).into_iter().map(|finding| finding.message).collect()
    }

    fn service(gateways: &str) -> String {
        format!(
            "networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: shop}}\n\
             spec: {{hosts: [a.example.com], {gateways} http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n"
        )
    }

    #[test]
    fn a_gateway_that_is_named_no_more_is_told() {
        let told = lost(&service("gateways: [web],"), &service(""));
        assert!(told.len() == 1 && told[0].contains("`shop/web`"), "{told:?}");
        let told = lost(&service(""), &service("gateways: [web],"));
        assert!(told.len() == 1 && told[0].contains("inside the mesh"), "{told:?}");
        let same =
            lost(&service("gateways: [web, mesh],"), &service("gateways: [mesh, shop/web],"));
        assert!(same.is_empty(), "{same:?}");
    }

    #[test]
    fn a_parent_that_is_named_no_more_is_told() {
        let route = |parents: &str| {
            format!(
                "gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: a, namespace: shop}}\n\
                 spec: {{parentRefs: [{parents}], rules: [{{}}]}}\n"
            )
        };
        let told = lost(
            &route("{name: edge}, {name: web, kind: Service, group: ''}"),
            &route("{name: edge}"),
        );
        assert!(told.len() == 1 && told[0].contains("Service `shop/web`"), "{told:?}");
    }
}
