//! Phones with Conversations, as `tests/foreign/xmpp_client.py` emulates them with slixmpp.

use std::{collections::VecDeque, process::Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::XmppDaemon;
use crate::{binary::workspace, foreign::Foreign, wait::within};

/// What a provider promises.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// Where application servers post.
    pub endpoint: String,
    /// Until when, as it was written.
    pub expiration: String,
}

/// A push as it came, and how it was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pushed {
    /// To whose account.
    pub account: String,
    /// How the phone answered: `result`, `silence`, or an error's condition.
    pub answered: String,
    /// For which app; `None` if it is none of the account's.
    pub app: Option<String>,
    /// The attribute `application`: a hash of the app's name.
    pub application: String,
    /// The attribute `instance`: a hash of the app's token.
    pub instance: String,
    /// The body.
    pub payload: Vec<u8>,
    /// Who sent it.
    pub sender: String,
    /// For which session: the full JID.
    pub to: String,
}

/// Any number of accounts on one server, in a process that is killed when it goes out of scope.
#[derive(Debug)]
pub struct Phones {
    _child: Child,
    lines: UnboundedReceiver<Value>,
    orders: u64,
    pushes: VecDeque<Pushed>,
    stdin: ChildStdin,
}

impl Phones {
    /// Starts the process, or says aloud what is missing.
    #[must_use]
    pub fn start(test: &str, server: &XmppDaemon) -> Option<Self> {
        let mut command = Command::new(Foreign::python_with_slixmpp(test)?);
        command.arg(workspace().join("tests/foreign/xmpp_client.py")).arg(server.clients.port().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("Python starts");
        let stdin = child.stdin.take().expect("its input is piped");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        // Read all the time: it would wait for a reader while we wait for it to read.
        let (sender, lines) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let _ = sender.send(line);
            }
        });
        Some(Self { _child: child, lines, orders: 0, pushes: VecDeque::new(), stdin })
    }

    /// Starts a session with this resource, for an account that is made if there is none; gives the full JID.
    pub async fn connect(&mut self, account: &str, resource: &str) -> String {
        self.connect_at(XmppDaemon::DOMAIN, account, resource).await
    }

    /// The same for an account of another domain.
    pub async fn connect_at(&mut self, domain: &str, account: &str, resource: &str) -> String {
        let order = json!({"do": "connect", "account": account, "domain": domain, "resource": resource});
        let answer = self.order(order).await;
        assert_eq!(answer["outcome"], "started", "{account} connects: {answer}");
        answer["jid"].as_str().expect("it is bound").to_owned()
    }

    /// Registers an app at a push service; a registration that exists is renewed.
    pub async fn register(&mut self, account: &str, to: &str, app: &str, token: &str) -> Registered {
        let answers = self.register_all(to, [(account, app, token)]).await;
        answers.into_iter().next().expect("one order, one answer")
    }

    /// As [`Self::register`], where it may be refused.
    ///
    /// # Errors
    /// `type` and `condition`.
    pub async fn try_register(
        &mut self,
        account: &str,
        to: &str,
        app: &str,
        token: &str,
    ) -> Result<Registered, Value> {
        let order = json!({"do": "register", "account": account, "to": to, "app": app, "token": token});
        let answer = self.order(order).await;
        if answer["error"].is_null() { Ok(registered(&answer)) } else { Err(answer["error"].clone()) }
    }

    /// Registers any number of them at once.
    pub async fn register_all<'a>(
        &mut self,
        to: &str,
        which: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> Vec<Registered> {
        let order = |(account, app, token)| json!({"do": "register", "account": account, "to": to, "app": app, "token": token});
        let answers = self.order_all(which.into_iter().map(order)).await;
        answers.iter().map(registered).collect()
    }

    /// Sends a request with this child, and gives what is in the answer: the children as XML under `xml`, or `type`
    /// and `condition` under `error`.
    pub async fn ask(&mut self, account: &str, to: &str, kind: &str, payload: &str) -> Value {
        let order = json!({"do": "ask", "account": account, "to": to, "kind": kind, "payload": payload});
        self.order(order).await
    }

    /// Says what Conversations has drawn at random for this account, before it connects for the first time.
    pub async fn identify(&mut self, account: &str, identity: &str) {
        self.order(json!({"do": "identify", "account": account, "identity": identity})).await;
    }

    /// Answers pushes to this account like this from now on: `result`, `silence`, or an error's condition.
    pub async fn answer(&mut self, account: &str, how: &str) {
        self.order(json!({"do": "answer", "account": account, "how": how})).await;
    }

    /// Tells a push service that the phone is there, as Conversations does at the start of each session.
    pub async fn present(&mut self, account: &str, to: &str) {
        self.order(json!({"do": "presence", "account": account, "to": to})).await;
    }

    /// Sends a chat message.
    pub async fn message(&mut self, account: &str, to: &str, body: &str) {
        self.order(json!({"do": "message", "account": account, "to": to, "body": body})).await;
    }

    /// Ends the connection without a word, as a phone does that leaves coverage; the session can be resumed.
    pub async fn cut(&mut self, account: &str) {
        self.order(json!({"do": "cut", "account": account})).await;
    }

    /// Comes back after [`Self::cut`], in the session that it left; panics if the server has forgotten it.
    pub async fn resume(&mut self, account: &str) {
        let answer = self.order(json!({"do": "back", "account": account})).await;
        assert_eq!(answer["outcome"], "resumed", "{account} resumes: {answer}");
    }

    /// Ends the session in order.
    pub async fn leave(&mut self, account: &str) {
        self.order(json!({"do": "leave", "account": account})).await;
    }

    /// The next push to any of the accounts.
    pub async fn push(&mut self) -> Pushed {
        within("a push", async {
            loop {
                if let Some(push) = self.pushes.pop_front() {
                    return push;
                }
                let line = self.lines.recv().await.expect("the phones live");
                self.pushes.push_back(pushed(&line));
            }
        })
        .await
    }

    async fn order(&mut self, order: Value) -> Value {
        self.order_all([order]).await.pop().expect("one order, one answer")
    }

    /// Gives the answers in the order of the orders.
    async fn order_all(&mut self, orders: impl IntoIterator<Item = Value>) -> Vec<Value> {
        let first = self.orders;
        let mut text = String::new();
        for mut order in orders {
            order["n"] = self.orders.into();
            self.orders += 1;
            text.push_str(&format!("{order}\n"));
        }
        let count = usize::try_from(self.orders - first).expect("few");
        within("the phones answer", async {
            self.stdin.write_all(text.as_bytes()).await.expect("the phones live");
            let mut answers = vec![Value::Null; count];
            let mut missing = count;
            while missing > 0 {
                let line = self.lines.recv().await.expect("the phones live");
                assert!(line["failed"].is_null(), "an order failed: {line}");
                match line["n"].as_u64() {
                    Some(number) => {
                        let place = usize::try_from(number - first).expect("few");
                        answers[place] = line;
                        missing -= 1;
                    }
                    None => self.pushes.push_back(pushed(&line)),
                }
            }
            answers
        })
        .await
    }
}

fn registered(answer: &Value) -> Registered {
    let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("no {key} in {answer}")).to_owned();
    Registered { endpoint: text("endpoint"), expiration: text("expiration") }
}

fn pushed(line: &Value) -> Pushed {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("not a push: {line}")).to_owned();
    let push = &line["push"];
    Pushed {
        account: text(&line["account"]),
        answered: text(&line["answered"]),
        app: line["app"].as_str().map(String::from),
        application: text(&push["application"]),
        instance: text(&push["instance"]),
        // Conversations refuses white space and missing padding too.
        payload: STANDARD.decode(text(&push["base64"])).expect("standard base64"),
        sender: text(&line["sender"]),
        to: text(&line["to"]),
    }
}
