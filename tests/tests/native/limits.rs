//! One endpoint that gets too much.

use harness::{Gateway, Version};

use crate::{bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_endpoint_is_limited_and_the_others_notice_nothing() {
    let gateway = Gateway::new().config("[limits]\nburst = 20\nper_second = 1\n").start().await;
    let (_, mut there) = phone(&gateway, Version::V5).await;
    let (hot, quiet) = (there.register("hot").await, there.register("quiet").await);
    // TTL 0: what is counted here is the limit, not the disk.
    let mut counts = [0, 0];
    for number in 0..100 {
        let answer = gateway.post(&hot.endpoint).ttl(0).body(format!("hot {number}")).send().await;
        if answer.status == 429 {
            assert!(
                answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok_and(|s| s >= 1))
            );
        }
        counts[usize::from(answer.status == 429)] += 1;
        if number % 50 == 0 {
            push(&gateway, &quiet.endpoint, "quiet").await;
        }
    }
    push(&gateway, &quiet.endpoint, "fence").await;
    let [taken, refused] = counts;
    assert!(taken >= 20 && refused >= 1, "{counts:?}");
    let got = bodies_until(&mut there, "fence").await;
    assert_eq!(got.iter().filter(|body| *body == "quiet").count(), 2);
    assert!(gateway.log().contains("answering 429"));
}
