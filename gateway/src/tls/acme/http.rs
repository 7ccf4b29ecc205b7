//! The way to the authority: HTTPS that believes whom this machine believes.

use std::{future::Future, io, pin::Pin};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio_rustls::rustls::crypto;

/// The longest answer: a chain of certificates has a few kilobytes.
const ANSWER_MAX: usize = 256 * 1024;

/// An HTTPS client for one order.
pub(super) struct Client(Hyper<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Client {
    /// Reads whom this machine believes, anew each time: that list is renewed, too.
    pub(super) fn new() -> io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(crypto::ring::default_provider())?
            .https_only()
            .enable_http1()
            .build();
        Ok(Self(Hyper::builder(TokioExecutor::new()).build(connector)))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = self.0.request(request);
        Box::pin(async move {
            let (parts, body) = answer.await.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(Error::Other)?;
            Ok(BytesResponse { parts, body: Box::new(body.to_bytes()) })
        })
    }
}
