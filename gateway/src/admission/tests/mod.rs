//! Admission against the sections of the RFCs that the names of the tests cite.

mod headers;
mod properties;
pub(crate) mod signer;
mod vapid;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use self::signer::Signer;
use super::{Admission, MissingTtl, Parts, Policy, Refusal, Unchecked};
use crate::{
    clock::{Clock as _, ManualClock},
    model::{DeviceId, EndpointToken, Moment, Registration, RegistrationId, UnixTime, VapidKey},
};

const ORIGIN: &str = "https://push.example.net";
/// 2026-11-14T22:13:20Z.
const NOW: u64 = 1_794_694_400;

fn at(seconds: u64) -> Moment {
    ManualClock::new(UnixTime(seconds * 1000)).moment()
}

fn admission(missing_ttl: MissingTtl) -> Admission {
    Admission::new(&Policy { missing_ttl, origin: ORIGIN.to_owned() })
}

pub(crate) fn registration(endpoint: EndpointToken, vapid: Option<VapidKey>) -> Arc<Registration> {
    Arc::new(Registration {
        app: "app".into(),
        created: UnixTime(0),
        device: DeviceId(1),
        endpoint,
        id: RegistrationId(2),
        token: "token".parse().expect("valid"),
        vapid,
    })
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        })
        .collect()
}

/// A request to an endpoint that is bound to nobody.
fn open(headers: &[(&str, &str)], body: &[u8]) -> Result<Parts, Refusal> {
    judge(&admission(MissingTtl::OneDay), None, headers, body, at(NOW))
}

fn judge(
    admission: &Admission,
    bound: Option<VapidKey>,
    headers: &[(&str, &str)],
    body: &[u8],
    now: Moment,
) -> Result<Parts, Refusal> {
    let headers = header_map(headers);
    let request = Unchecked { body: Bytes::copy_from_slice(body), headers: &headers };
    admission.admit(request, registration(EndpointToken([7; 20]), bound), now).map(super::Checked::into_parts)
}
