//! What happens to phones, one after the other on one server, because a server takes long to start. Each has an
//! account of its own.

use std::time::Duration;

use harness::{DaemonKind, Gateway, XmppDaemon, eventually, holds_for, now_s, run};

use super::{Lab, notifications};

/// All of them; the last ones end the gateway and the server.
pub(super) async fn all(mut lab: Lab) {
    pushes_arrive_byte_for_byte(&mut lab).await;
    an_endpoint_follows_its_phone_to_a_new_resource(&mut lab).await;
    an_app_that_is_gone_is_revoked_and_may_come_again(&mut lab).await;
    what_came_while_the_phone_was_away_waits(&mut lab).await;
    a_session_that_hibernates_is_given_what_it_missed(&mut lab).await;
    a_session_that_hibernated_for_good_loses_nothing(&mut lab).await;
    what_a_phone_cannot_take_now_is_kept(&mut lab).await;
    who_lives_elsewhere_is_refused(&mut lab).await;
    a_wrong_secret_is_said_and_harms_nobody(&mut lab).await;
    notifications::a_server_notifies_by_way_of_an_endpoint(&mut lab).await;
    the_gateway_comes_back(&mut lab).await;
    the_server_comes_back(&mut lab).await;
}

async fn pushes_arrive_byte_for_byte(lab: &mut Lab) {
    let jid = lab.phones.connect("bytes", "Conversations.aB3d").await;
    let registered = lab.register("bytes", "tok-1").await;
    let seconds = run("date", ["-u", "+%s", "-d", &registered.expiration]).await;
    let left = seconds.text().parse::<u64>().unwrap().checked_sub(now_s()).unwrap();
    assert!((6 * 86_400..=7 * 86_400).contains(&left), "it is promised for seven days, not {left} s");
    let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(4096).collect();
    for body in [&b"hello"[..], &every_byte, b""] {
        lab.post(&registered, body).await.expect(201);
        let push = lab.expect(body).await;
        assert_eq!((push.sender.as_str(), &push.to), (XmppDaemon::COMPONENT, &jid));
        assert_eq!(push.app.as_deref(), Some(super::APP));
        lab.acknowledged(&registered).await;
    }
    lab.post(&registered, [b'x'; 5631]).await.expect(413);
    let again = lab.register("bytes", "tok-1").await;
    assert_eq!(again.endpoint, registered.endpoint, "a renewal is no news to the app");
    let other = lab.register("bytes", "tok-2").await;
    assert_ne!(other.endpoint, registered.endpoint, "another token, another endpoint");
}

async fn an_endpoint_follows_its_phone_to_a_new_resource(lab: &mut Lab) {
    lab.phones.connect("moving", "Conversations.aB3d").await;
    let registered = lab.register("moving", "tok").await;
    lab.phones.leave("moving").await;
    let jid = lab.phones.connect("moving", "Conversations.eF5g").await;
    let renewed = lab.register("moving", "tok").await;
    assert_eq!(renewed.endpoint, registered.endpoint);
    lab.post(&registered, "to the new resource").await.expect(201);
    assert_eq!(lab.expect("to the new resource").await.to, jid);
    lab.acknowledged(&registered).await;
}

async fn an_app_that_is_gone_is_revoked_and_may_come_again(lab: &mut Lab) {
    lab.phones.connect("gone", "Conversations.aB3d").await;
    for condition in ["item-not-found", "feature-not-implemented"] {
        let registered = lab.register("gone", "tok").await;
        lab.phones.answer("gone", condition).await;
        lab.post(&registered, "for nobody").await.expect(201);
        assert_eq!(lab.expect("for nobody").await.answered, condition);
        eventually("the endpoint is gone", async || {
            (lab.post(&registered, "for nobody").await.status == 410).then_some(())
        })
        .await;
        assert_eq!(lab.waiting(&registered).await, None);
        // What was posted before it was gone may have been on its way.
        lab.phones.answer("gone", "result").await;
        let again = lab.register("gone", "tok").await;
        assert_ne!(
            again.endpoint, registered.endpoint,
            "or the app would not tell its server that it is back"
        );
        lab.post(&again, condition).await.expect(201);
        while lab.phones.push().await.payload != condition.as_bytes() {}
        lab.acknowledged(&again).await;
    }
}

async fn what_came_while_the_phone_was_away_waits(lab: &mut Lab) {
    lab.phones.connect("away", "Conversations.aB3d").await;
    let registered = lab.register("away", "tok").await;
    lab.phones.leave("away").await;
    for body in ["first", "second", "third"] {
        lab.post(&registered, body).await.expect(201);
    }
    assert_eq!(lab.waiting(&registered).await, Some(3));
    lab.phones.connect("away", "Conversations.aB3d").await;
    lab.phones.present("away", XmppDaemon::COMPONENT).await;
    for body in ["first", "second", "third"] {
        lab.expect(body).await;
    }
    lab.acknowledged(&registered).await;
}

async fn a_session_that_hibernates_is_given_what_it_missed(lab: &mut Lab) {
    lab.phones.connect("tunnel", "Conversations.aB3d").await;
    let registered = lab.register("tunnel", "tok").await;
    lab.phones.cut("tunnel").await;
    lab.post(&registered, "in the tunnel").await.expect(201);
    assert_eq!(lab.waiting(&registered).await, Some(1), "silence says nothing");
    lab.phones.resume("tunnel").await;
    // Resuming, a phone sends no presence: it is the server that delivers, and the answer comes late.
    assert_eq!(lab.expect("in the tunnel").await.answered, "result");
    lab.acknowledged(&registered).await;
    lab.post(&registered, "behind it").await.expect(201);
    lab.expect("behind it").await;
}

async fn a_session_that_hibernated_for_good_loses_nothing(lab: &mut Lab) {
    lab.phones.connect("lost", "Conversations.aB3d").await;
    let registered = lab.register("lost", "tok").await;
    lab.phones.cut("lost").await;
    lab.post(&registered, "to whom").await.expect(201);
    // The server ends the old session and answers in its place, in its own words.
    let jid = lab.phones.connect("lost", "Conversations.aB3d").await;
    lab.phones.present("lost", XmppDaemon::COMPONENT).await;
    assert_eq!(lab.expect("to whom").await.to, jid);
    lab.acknowledged(&registered).await;
}

async fn what_a_phone_cannot_take_now_is_kept(lab: &mut Lab) {
    lab.phones.connect("busy", "Conversations.aB3d").await;
    let registered = lab.register("busy", "tok").await;
    for answer in ["service-unavailable", "resource-constraint", "silence"] {
        lab.phones.answer("busy", answer).await;
        lab.post(&registered, answer).await.expect(201);
        assert_eq!(lab.expect(answer).await.answered, answer);
        assert_eq!(lab.waiting(&registered).await, Some(1));
        lab.phones.answer("busy", "result").await;
        lab.phones.present("busy", XmppDaemon::COMPONENT).await;
        let again = lab.expect(answer).await;
        assert_eq!(again.answered, "result");
        lab.acknowledged(&registered).await;
    }
}

async fn who_lives_elsewhere_is_refused(lab: &mut Lab) {
    lab.phones.connect_at(XmppDaemon::ELSEWHERE, "mallory", "Conversations.aB3d").await;
    let refused = lab.phones.try_register("mallory", XmppDaemon::COMPONENT, super::APP, "tok").await;
    let error = refused.expect_err("another domain's account has no business here");
    assert_eq!((&error["type"], &error["condition"]), (&"auth".into(), &"forbidden".into()));
}

async fn a_wrong_secret_is_said_and_harms_nobody(lab: &mut Lab) {
    lab.phones.connect("honest", "Conversations.aB3d").await;
    let registered = lab.register("honest", "tok").await;
    let wrong = Gateway::new().config(&lab.server.gateway_config("wrong")).start().await;
    eventually("it is said", async || wrong.log().contains("not-authorized").then_some(())).await;
    assert!(!wrong.log().contains("connected as"), "{}", wrong.log());
    // A server that is asked again at once would be asked hundreds of times in this window.
    let attempts = |log: String| log.matches("not-authorized").count();
    assert!(holds_for(Duration::from_secs(1), || attempts(wrong.log()) <= 2).await, "{}", wrong.log());
    lab.post(&registered, "none the worse").await.expect(201);
    lab.expect("none the worse").await;
    lab.acknowledged(&registered).await;
}

async fn the_gateway_comes_back(lab: &mut Lab) {
    lab.phones.connect("patient", "Conversations.aB3d").await;
    let registered = lab.register("patient", "tok").await;
    for (times, killed) in [(2, false), (3, true)] {
        // Not taken, so that it is pending.
        lab.phones.answer("patient", "silence").await;
        lab.post(&registered, "pending").await.expect(201);
        lab.expect("pending").await;
        if killed {
            lab.gateway.kill9().await;
        } else {
            lab.gateway.terminate().await;
        }
        lab.phones.answer("patient", "result").await;
        lab.gateway.start_again().await;
        lab.connected(times).await;
        // The phone knows nothing of all this and does nothing.
        lab.expect("pending").await;
        lab.post(&registered, "new").await.expect(201);
        lab.expect("new").await;
        lab.acknowledged(&registered).await;
        let renewed = lab.register("patient", "tok").await;
        assert_eq!(renewed.endpoint, registered.endpoint);
    }
}

async fn the_server_comes_back(lab: &mut Lab) {
    lab.phones.connect("loyal", "Conversations.aB3d").await;
    let registered = lab.register("loyal", "tok").await;
    // Both ways of ending, one on each server, because starting takes long. ejabberd would forget the account, which
    // is too new to be on its disk.
    match lab.kind {
        DaemonKind::Ejabberd => drop(lab.server.terminate().await),
        DaemonKind::Prosody => lab.server.kill9().await,
    }
    lab.post(&registered, "while it was down").await.expect(201);
    lab.server.start_again().await;
    let jid = lab.phones.connect("loyal", "Conversations.eF5g").await;
    let renewed = lab.register("loyal", "tok").await;
    assert_eq!(renewed.endpoint, registered.endpoint);
    assert_eq!(lab.expect("while it was down").await.to, jid);
    lab.acknowledged(&registered).await;
}
