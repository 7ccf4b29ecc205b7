use super::*;

fn slot(source: u64, topic: Option<&str>) -> Slot {
    Slot {
        device: DeviceId(source),
        expires_ms: 7,
        owed: Owed::Own,
        registration: RegistrationId(100 + source),
        size: 1024,
        topic: topic.map(|topic| topic.parse().expect("a topic")),
    }
}

fn said(slot: &Slot) -> (DeviceId, RegistrationId, u64, u16, Option<Topic>, Owed) {
    let Slot { device, expires_ms, owed, registration, size, topic } = slot.clone();
    (device, registration, expires_ms, size, topic, owed)
}

#[test]
fn what_is_taken_out_is_what_was_put_in() {
    let mut slots = Slots::default();
    for (number, topic) in [(1, None), (2, Some("news")), (3, None)] {
        assert!(slots.insert(number, slot(number % 2, topic)).is_none());
    }
    assert_eq!(slots.change_owed(3, |owed| *owed = Owed::Shared([DeviceId(5)].into())), Some(()));
    assert_eq!(slots.owed(3), Some(&Owed::Shared([DeviceId(5)].into())));
    for number in 1..=3 {
        let known = slots.get(number).expect("it waits");
        let mut put = slot(number % 2, (number == 2).then_some("news"));
        put.owed = slots.owed(number).expect("it waits").clone();
        assert_eq!(said(&known), said(&put));
        assert_eq!(said(&slots.remove(number).expect("it waits")), said(&put));
        assert!(!slots.contains(number));
    }
}

#[test]
fn a_source_for_which_nothing_waits_leaves_nothing_behind() {
    let mut slots = Slots::default();
    for number in 0..1000 {
        slots.insert(number, slot(number, None));
        assert_eq!(slots.registration(number), Some(RegistrationId(100 + number)));
        slots.insert(number, slot(number + 1, None));
        assert_eq!(slots.registration(number), Some(RegistrationId(101 + number)));
        slots.remove(number);
    }
    let Sources { known, places, .. } = slots.sources;
    assert!(known.len() <= 2 && places.is_empty(), "{} known, {} places", known.len(), places.len());
}
