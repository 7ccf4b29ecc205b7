//! What a device is told of its registrations.

use super::*;

#[tokio::test]
async fn a_group_has_paired_devices_and_the_end_of_its_registration_is_told_to_each() {
    let house = House::open();
    let registry = &house.registry;
    let ((first, _), (second, _)) = (house.pair().await, house.pair().await);
    let group = registry.add_group("family").await.expect("a group");
    assert_eq!(registry.join_group(first, second).await, Err(Refusal::NoSuchGroup(first)));
    assert_eq!(registry.join_group(group, group).await, Err(Refusal::NoSuchDevice(group)));
    assert_eq!(registry.leave_group(group, first).await, Err(Refusal::NotAMember(first, group)));
    let ntfy = registry.add_device("topics", "ntfy").await.expect("a pairing").device;
    assert_eq!(registry.join_group(group, ntfy).await, Err(Refusal::OwnTopics(ntfy)));
    for device in [first, second, first] {
        assert_eq!(registry.join_group(group, device).await, Ok(()), "twice is no error");
    }
    assert_eq!(registry.groups()[0].members, [first, second]);
    let shared = house.register(group, "mail").await;
    house.register(second, "mail").await;
    registry.remove_registration(&shared.endpoint).await.expect("removed");
    let told = Notice::Unregistered(first, "mail".parse().expect("a token"));
    assert_eq!(house.heard(), [told], "the second would take it for its own");
    for _ in 2..MAX_MEMBERS {
        let (device, _) = house.pair().await;
        registry.join_group(group, device).await.expect("there is room");
    }
    let (device, _) = house.pair().await;
    assert_eq!(registry.join_group(group, device).await, Err(Refusal::Crowded(group)));
    registry.remove_device(first).await.expect("removed");
    assert_eq!(registry.join_group(group, device).await, Ok(()));
    let house = house.restart().await;
    assert_eq!(house.registry.groups()[0].members.len(), MAX_MEMBERS);
    house.registry.remove_group(group).await.expect("removed");
    assert_eq!(house.registry.remove_group(group).await, Err(Refusal::NoSuchGroup(group)));
}

#[tokio::test]
async fn what_ended_is_news_until_it_was_told_also_over_a_restart() {
    let house = House::open();
    let ((device, _), (other, _)) = (house.pair().await, house.pair().await);
    let group = house.registry.add_group("family").await.expect("a group");
    let registry = &house.registry;
    for member in [device, other] {
        registry.join_group(group, member).await.expect("joins");
    }
    assert_eq!(registry.news(device), [], "it has learnt nothing yet");
    let mail = house.register(device, "mail").await;
    let chat = house.register(device, "chat").await;
    let shared = house.register(group, "shared").await;
    assert_eq!(registry.news(device), [], "it has been answered");
    for ended in [&mail, &shared] {
        registry.remove_registration(&ended.endpoint).await.expect("removed");
    }
    let end = |ended: &RegisteredAs, tell| {
        let about = About::End(ended.registration.endpoint);
        News { about, tell: vec![tell] }
    };
    let gone = |ended: &RegisteredAs| end(ended, Tell::Unregistered(ended.registration.token.clone()));
    // What the device ends itself is none.
    assert_eq!(registry.unregister(device, &chat.registration.token).await, Ok(()));
    assert_eq!(registry.news(device), [gone(&mail), gone(&shared)]);
    let house = house.restart().await;
    let registry = &house.registry;
    assert_eq!(registry.news(device), [gone(&mail), gone(&shared)]);
    assert_eq!(registry.news(other), [gone(&shared)]);
    // Another came in its place: then that is what there is to say.
    let again = house.register(device, "mail").await;
    house.register(other, "shared").await;
    assert_eq!(registry.news(device)[0], end(&mail, Tell::Endpoint(again)));
    assert_eq!(registry.news(other)[0].tell, [], "it is no end of its own");
    registry.told(device, &[About::End(mail.registration.endpoint)]);
    assert_eq!(registry.news(device), [gone(&shared)]);
    let house = house.restart().await;
    assert_eq!(house.registry.news(device), [gone(&shared)]);
    house.registry.remove_device(device).await.expect("removed");
    house.registry.told(device, &[About::Origin]);
    assert_eq!(house.registry.news(device), []);
}

#[tokio::test]
async fn the_end_of_a_group_is_news_for_its_members() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let registry = &house.registry;
    let group = registry.add_group("family").await.expect("a group");
    registry.join_group(group, device).await.expect("joins");
    let shared = house.register(group, "shared").await;
    registry.remove_group(group).await.expect("removed");
    let token = shared.registration.token.clone();
    assert_eq!(house.heard(), [Notice::Unregistered(device, token.clone())]);
    let about = About::End(shared.registration.endpoint);
    assert_eq!(registry.news(device), [News { about, tell: vec![Tell::Unregistered(token)] }]);
}

#[tokio::test]
async fn endpoints_of_another_origin_are_news() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let registered = house.register(device, "mail").await;
    let mut house = house.restart().await;
    assert_eq!(house.registry.news(device), [], "it lies where it lay");
    // News come in the order in which apps were registered, and ids are random.
    house.clock.advance(Duration::from_secs(1));
    let registry = Arc::get_mut(&mut house.registry).expect("nobody else has it");
    registry.origin.url = "https://elsewhere.example".to_owned();
    let endpoint = registry.origin.endpoint(registered.registration.endpoint);
    let tell = vec![Tell::Endpoint(RegisteredAs { endpoint, ..registered })];
    assert_eq!(registry.news(device), [News { about: About::Origin, tell: tell.clone() }]);
    // Whatever else it learns meanwhile is not all that it knew.
    let also = registry.register(device, app("chat")).await.expect("an endpoint");
    let tell = [tell, vec![Tell::Endpoint(also)]].concat();
    assert_eq!(registry.news(device), [News { about: About::Origin, tell }]);
    registry.told(device, &[About::Origin]);
    assert_eq!(registry.news(device), []);
}
