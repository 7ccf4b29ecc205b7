//! What users of a server may send by it: nothing of it may end the stream, which is everybody's.

use super::house::{ALICE, House, soon};

/// What a server lets pass.
fn hostile() -> Vec<String> {
    let to = "to='push.home.test'";
    let from = format!("from='{ALICE}' {to}");
    let errors = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'";
    let mut stanzas = vec![
        format!("<message type='zzz' {from}><body>x</body></message>"),
        format!("<presence {from}><priority>9999999</priority></presence>"),
        format!("<presence {from}><show>asleep</show></presence>"),
        format!("<message {from}><thread>a</thread><thread>b</thread></message>"),
        format!(
            "<iq type='error' id='x' {from}><error type='cancel'><no-such-condition {errors}/></error></iq>"
        ),
        format!("<iq type='error' id='x' {from}><error type='whatever'><gone {errors}/></error></iq>"),
        format!("<iq type='error' id='x' {from}/>"),
        format!("<iq type='result' id='{}' {from}/>", "x".repeat(9000)),
        format!("<message {from} xml:lang='{}'/>", "y".repeat(300_000)),
        format!("<message {from}>{}{}</message>", "<a>".repeat(400), "</a>".repeat(400)),
        format!("<message {from}><body>{}</body></message>", "z".repeat(200_000)),
        format!("<message {from}><body>&lt;&#x41;&amp;<![CDATA[ </message> ]]></body></message>"),
        format!("<iq type='nonsense' id='x' {from}><a xmlns='b'/></iq>"),
        format!("<iq type='set' {from}><a xmlns='b'/></iq>"),
        format!("<iq type='set' id='x' {to}><a xmlns='b'/></iq>"),
        format!("<iq type='get' id='x' {from}/>"),
        format!("<iq type='get' id='x' {from}><a xmlns='b'/><c xmlns='d'/></iq>"),
        format!(
            "<iq type='get' id='x' from='@' {to}><register xmlns='http://gultsch.de/xmpp/drafts/unified-push'/></iq>"
        ),
        format!("<presence type='probe' {from}/>"),
        format!("<presence type='subscribe' {from}/>"),
        format!("<unknown xmlns='urn:new' {from}><x/></unknown>"),
        "plain text between stanzas".to_owned(),
    ];
    let flat = format!("<message {from}>{}</message>", "<a/>".repeat(50_000));
    stanzas.push(flat);
    stanzas
}

#[tokio::test]
async fn nothing_that_users_send_ends_the_stream() {
    let mut house = House::start().await;
    let mut peer = house.accept().await;
    for stanza in hostile() {
        let begin: String = stanza.chars().take(120).collect();
        peer.say(&stanza).await;
        assert!(peer.is_alive().await, "{begin}");
    }
    // In small pieces, which is how it may come.
    for stanza in hostile().into_iter().filter(|stanza| stanza.len() < 1000) {
        for byte in stanza.as_bytes() {
            use tokio::io::AsyncWriteExt as _;
            soon(peer.stream.write_all(&[*byte])).await.expect("the room reads");
        }
        assert!(peer.is_alive().await, "{stanza}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_not_forgotten() {
    let mut house = House::start().await;
    let mut peer = house.accept().await;
    for payload in [
        format!("<a xmlns='b'>{}</a>", "z".repeat(70_000)),
        format!("{}{}", "<a xmlns='b'>".repeat(20), "</a>".repeat(20)),
    ] {
        let answer = peer
            .ask(&format!("<iq type='set' id='big' from='{ALICE}' to='push.home.test'>{payload}</iq>"))
            .await;
        assert!(answer.starts_with("<iq type='error' id='big' from='push.home.test' "), "{answer}");
        assert!(answer.contains("<not-acceptable "), "{answer}");
    }
}

/// What no server sends, because RFC 6120 §11.1 and §11.3 forbid it: whoever does is no XMPP server, and what
/// follows cannot be told apart. The room connects again.
#[tokio::test]
async fn what_is_not_xml_ends_the_stream_and_another_begins() {
    let mut house = House::start().await;
    for broken in [
        "<message></presence>",
        "<message a='1' a='2'/>",
        "<x:message/>",
        "<message>&entity;</message>",
        "<!DOCTYPE x>",
        "<?php ?>",
        "<!-- a comment -->",
        "<message>\u{1}</message>",
        "</stream:stream>",
    ] {
        let mut peer = house.accept().await;
        assert!(peer.is_alive().await);
        peer.say(broken).await;
        // It may say good-bye first.
        while peer.hear().await.is_some() {}
    }
    assert!(house.accept().await.is_alive().await);
}
