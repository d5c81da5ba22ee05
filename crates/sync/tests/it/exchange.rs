//! The exchange, message by message.

use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use heddle_proto::resource::{ResourceType, name_text};
use heddle_sync::{Client, ProtocolError, ServerStream, Update};

use crate::world::{World, content, name};

struct Pair {
    world: World,
    client: Client,
    server: ServerStream,
    /// Every response that went over.
    responses: Vec<DeltaDiscoveryResponse>,
}

fn refuse_odd(_: &ResourceName, resource: &Resource) -> Result<(), String> {
    if content(resource) % 2 == 1 { Err("odd".into()) } else { Ok(()) }
}

impl Pair {
    fn new() -> Self {
        let mut client = Client::new(Node { id: "test".into(), ..Node::default() });
        client.handle_connect();
        let (world, server) = (World::default(), ServerStream::new());
        Self { world, client, server, responses: Vec::new() }
    }

    fn set(&mut self, index: usize, content: u32) {
        self.world.set(index, content);
        self.server.handle_change(&name(index));
    }

    /// Carries messages until nobody has anything to say; what the client applied.
    fn settle(&mut self) -> Vec<Update> {
        let mut applied = Vec::new();
        loop {
            let mut moved = false;
            while let Some(request) = self.client.poll_transmit() {
                self.server.handle_request(&request).unwrap();
                moved = true;
            }
            if let Some(response) = self.server.poll_transmit(&mut self.world) {
                self.responses.push(response.clone());
                applied
                    .extend(self.client.handle_response(response, refuse_odd).unwrap_or_default());
                moved = true;
            }
            if !moved {
                assert!(self.server.is_settled());
                return applied;
            }
        }
    }

    fn reconnect(&mut self) {
        self.client.handle_disconnect();
        assert_eq!(self.client.poll_transmit(), None);
        self.client.handle_connect();
        self.server = ServerStream::new();
        self.responses.clear();
    }
}

#[test]
fn a_subscription_is_answered_and_kept_up_to_date() {
    let mut pair = Pair::new();
    pair.set(1, 2);
    pair.client.want(&name(1));
    pair.client.want(&name(2));
    let applied = pair.settle();
    assert_eq!(applied.len(), 2);
    assert_eq!(applied[0].resource.as_ref().map(content), Some(2));
    assert_eq!(applied[1], Update { name: name(2), resource: None });
    pair.set(1, 4);
    pair.set(1, 6);
    let applied = pair.settle();
    assert_eq!(
        applied.iter().map(|u| u.resource.as_ref().map(content)).collect::<Vec<_>>(),
        [Some(6)]
    );
    pair.world.remove(1);
    pair.server.handle_change(&name(1));
    assert_eq!(pair.settle(), [Update { name: name(1), resource: None }]);
}

#[test]
fn only_what_changed_is_sent() {
    let mut pair = Pair::new();
    for index in 0..10 {
        pair.set(index, 2);
        pair.client.want(&name(index));
    }
    assert_eq!(pair.settle().len(), 10);
    pair.set(3, 4);
    pair.set(5, 2);
    assert_eq!(pair.settle().len(), 1);
}

#[test]
fn nothing_is_sent_again_after_a_reconnect() {
    let mut pair = Pair::new();
    for index in 0..10 {
        pair.set(index, 2);
        pair.client.want(&name(index));
    }
    pair.settle();
    pair.reconnect();
    pair.world.set(4, 4);
    pair.world.remove(5);
    let applied = pair.settle();
    assert_eq!(applied.len(), 2);
    let sent: usize = pair.responses.iter().map(|r| r.resources.len()).sum();
    assert_eq!(sent, 1);
}

#[test]
fn one_response_per_type_is_on_its_way() {
    let mut pair = Pair::new();
    pair.client.want(&name(1));
    let request = pair.client.poll_transmit().unwrap();
    pair.server.handle_request(&request).unwrap();
    assert!(pair.server.poll_transmit(&mut pair.world).is_some());
    pair.set(1, 2);
    assert!(pair.server.poll_transmit(&mut pair.world).is_none());
    assert!(!pair.server.is_settled());
}

#[test]
fn a_refused_resource_is_not_applied_recorded_and_not_sent_again() {
    let mut pair = Pair::new();
    pair.set(1, 2);
    pair.client.want(&name(1));
    pair.settle();
    pair.set(1, 3);
    assert!(pair.settle().is_empty());
    let rejections: Vec<_> = pair.server.rejections().collect();
    assert_eq!(rejections.len(), 1);
    assert!(rejections[0].reason.ends_with("odd"));
    pair.server.handle_change(&name(1));
    pair.responses.clear();
    pair.settle();
    assert!(pair.responses.is_empty());
    // Taking the change back needs no message: the client still has the former state.
    pair.set(1, 2);
    pair.settle();
    assert!(pair.responses.is_empty());
    assert_eq!(pair.server.rejections().count(), 0);
}

#[test]
fn one_bad_resource_does_not_hold_up_the_others() {
    let mut pair = Pair::new();
    for index in 0..6 {
        pair.set(index, if index == 3 { 7 } else { 2 });
        pair.client.want(&name(index));
    }
    assert_eq!(pair.settle().len(), 5);
    assert_eq!(pair.server.rejections().map(|r| r.name).collect::<Vec<_>>(), [name(3)]);
}

#[test]
fn what_was_dropped_and_is_wanted_again_is_sent_again() {
    let mut pair = Pair::new();
    pair.set(1, 2);
    pair.client.want(&name(1));
    pair.settle();
    pair.client.unwant(&name(1));
    pair.client.want(&name(1));
    assert_eq!(pair.settle().len(), 1);
    pair.client.unwant(&name(1));
    pair.settle();
    assert!(!pair.server.is_subscribed(&name(1)));
    pair.set(1, 4);
    assert!(pair.settle().is_empty());
}

#[test]
fn the_first_message_of_a_stream_introduces_the_client() {
    let mut pair = Pair::new();
    pair.client.want(&name(1));
    pair.client.want(&ResourceName::TrustBundle);
    let first = pair.client.poll_transmit().unwrap();
    assert_eq!(first.node.unwrap().id, "test");
    assert_eq!(pair.client.poll_transmit().unwrap().node, None);
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_apart() {
    let mut server = ServerStream::new();
    let request = |url: &str, name: String| DeltaDiscoveryRequest {
        type_url: url.into(),
        resource_names_subscribe: vec![name],
        ..DeltaDiscoveryRequest::default()
    };
    let sets = ResourceType::Endpoints.url();
    assert!(matches!(
        server.handle_request(&request(sets, "*".into())),
        Err(ProtocolError::Name(_))
    ));
    assert!(matches!(
        server.handle_request(&request("type.googleapis.com/x", "a".into())),
        Err(ProtocolError::UnknownType(_))
    ));
    assert!(server.handle_request(&request(sets, name_text(&name(1)))).is_ok());
}

#[test]
fn a_stream_takes_a_bounded_number_of_subscriptions() {
    let mut server = ServerStream::new();
    let names = (0..=heddle_sync::SUBSCRIPTIONS_MAX).map(|i| name_text(&name(i))).collect();
    let request = DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.url().into(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(server.handle_request(&request), Err(ProtocolError::TooManySubscriptions));
}

#[test]
fn a_response_that_cannot_be_read_is_refused_as_a_whole() {
    let mut pair = Pair::new();
    pair.set(1, 2);
    pair.set(2, 2);
    pair.client.want(&name(1));
    pair.client.want(&name(2));
    let request = pair.client.poll_transmit().unwrap();
    pair.server.handle_request(&request).unwrap();
    let mut response = pair.server.poll_transmit(&mut pair.world).unwrap();
    response.resources[1].resource.as_mut().unwrap().value.push(0xff);
    assert!(pair.client.handle_response(response, refuse_odd).is_err());
    assert_eq!(pair.client.version(&name(1)), None);
    let answer = pair.client.poll_transmit().unwrap();
    assert!(answer.error_detail.is_some());
}
