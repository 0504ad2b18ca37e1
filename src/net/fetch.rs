//! One small request to a URL that somebody else may have chosen, and its whole answer: metadata, keys, tokens. Sizes and
//! time are bounded, no redirect is followed, and the address is checked as for every connection.
//!
//! Calls to MCP servers do not come here: those stream, and keep their connections.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Outbound, Target};
use crate::fault::{Fault, Kind, Retry};

/// What bounds one request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest body of the answer, bytes.
    pub body: usize,
    /// From the look-up of the name to the last byte.
    pub time: Duration,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How long all of it took.
    pub took: Duration,
}

impl Answer {
    /// When to come back, if the answer says so in seconds (`Retry-After`, RFC 9110 section 10.2.3) or as a date.
    pub fn retry_after(&self, now: time::OffsetDateTime) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let then = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc2822).ok()?;
        Some((then - now).try_into().unwrap_or_default())
    }

    /// Whether it says that its body is JSON: `application/json`, or a type that ends in `+json`.
    pub fn is_json(&self) -> bool {
        let kind = self.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    }
}

impl Outbound {
    /// Sends `request`, whose target is replaced by `url`'s, on a connection of its own. A redirect is an answer like any
    /// other.
    pub async fn fetch(&self, url: &Url, request: Request<Bytes>, bounds: Bounds) -> Result<Answer, Fault> {
        let began = Instant::now();
        let deadline = began + bounds.time;
        let target = Target::of(url)?;
        let connection = self.connect(&target, bounds.time).await?;
        let exchanged = timeout_at(deadline, exchange(connection.stream, &target, url, request, bounds.body)).await;
        let (status, headers, body) = exchanged.map_err(|_| {
            let text = format!("{target} did not answer within {} ms", bounds.time.as_millis());
            Fault::upstream(Kind::Timeout, Retry::MaybeSent, text)
        })??;
        Ok(Answer { status, headers, body, took: began.elapsed() })
    }

    /// `GET` of a URL.
    pub async fn get(&self, url: &Url, bounds: Bounds) -> Result<Answer, Fault> {
        let mut request = Request::new(Bytes::new());
        request.headers_mut().insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        self.fetch(url, request, bounds).await
    }
}

async fn exchange(
    stream: super::Stream,
    target: &Target,
    url: &Url,
    request: Request<Bytes>,
    most: usize,
) -> Result<(StatusCode, HeaderMap, Bytes), Fault> {
    let setup = |what: &str| Fault::gateway(Kind::Setup, format!("{target}: {what}"));
    let dropped = |what: String| Fault::upstream(Kind::Dropped, Retry::MaybeSent, format!("{target}: {what}"));
    let mut request = request.map(Full::new);
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| setup("the path of the URL cannot be sent"))?;
    let host = HeaderValue::from_str(&target.authority()).map_err(|_| setup("the host cannot be sent"))?;
    request.headers_mut().insert(HOST, host);

    let (mut sender, driver) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| dropped(error.to_string()))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(|error| dropped(error.to_string()))?;
        let (head, mut body) = response.into_parts();
        let too_large = || {
            let text = format!("{target} answered with more than {most} bytes");
            Fault::upstream(Kind::TooLarge, Retry::MaybeSent, text)
        };
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > most as u64) {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| dropped(error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            if whole.len() + piece.len() > most {
                return Err(too_large());
            }
            whole.extend_from_slice(&piece);
        }
        Ok((head.status, head.headers, whole.freeze()))
    };
    // The connection is driven beside the exchange and dropped with it: nothing is left behind.
    let mut driver = std::pin::pin!(driver);
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        biased;
        done = &mut asked => done,
        ended = &mut driver => match ended {
            Ok(()) => asked.await,
            Err(error) => Err(dropped(error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::AddressPolicy;
    use super::*;

    const BOUNDS: Bounds = Bounds { body: 64, time: Duration::from_secs(5) };

    /// Answers one request with these bytes and says what it was asked.
    async fn once(answer: &'static [u8]) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/a/b?c=d#e", listener.local_addr().unwrap())).unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        (url, asked)
    }

    fn outbound() -> Outbound {
        Outbound::new(AddressPolicy::ADMIN, None)
    }

    #[tokio::test]
    async fn an_answer_comes_whole() {
        let (url, asked) = once(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/jwk-set+json; charset=utf-8\r\ncontent-length: 2\r\n\r\n{}",
        )
        .await;
        let answer = outbound().get(&url, BOUNDS).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));
        assert!(answer.is_json());
        assert!(asked.await.unwrap().starts_with("GET /a/b?c=d HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_given_up_announced_or_not() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 65\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789",
        ] {
            let (url, _asked) = once(answer).await;
            assert_eq!(outbound().get(&url, BOUNDS).await.unwrap_err().kind, Kind::TooLarge);
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_on_and_one_that_drips_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let begin = async |head: &[u8]| {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "an answer comes after its question");
            stream.write_all(head).await.unwrap();
            stream
        };
        let endless = async {
            let mut stream = begin(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
            let (piece, mut sent) = (vec![b' '; 1 << 16], 0);
            while sent < 1 << 30 && stream.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            sent
        };
        let outbound = outbound();
        let (answer, sent) = tokio::join!(outbound.get(&url, BOUNDS), endless);
        assert_eq!(answer.unwrap_err().kind, Kind::TooLarge);
        assert!(sent < 64 << 20, "{sent} bytes of a gigabyte were taken");
        let dripping = begin(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{");
        let short = Bounds { time: Duration::from_millis(100), ..BOUNDS };
        let (answer, _held) = tokio::join!(outbound.get(&url, short), dripping);
        assert_eq!(answer.unwrap_err().kind, Kind::Timeout);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_silence_ends() {
        let (url, _asked) =
            once(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(outbound().get(&url, BOUNDS).await.unwrap().status, StatusCode::FOUND);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let short = Bounds { time: Duration::from_millis(50), ..BOUNDS };
        assert_eq!(outbound().get(&url, short).await.unwrap_err().kind, Kind::Timeout);
    }

    #[tokio::test]
    async fn what_a_stranger_chose_does_not_lead_inside() {
        let stranger = outbound().under(AddressPolicy::STRANGER);
        for url in ["http://127.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://169.254.169.254/"]
        {
            let refused = stranger.get(&Url::parse(url).unwrap(), BOUNDS).await.unwrap_err();
            assert_eq!(refused.kind, Kind::Setup, "{url}");
        }
    }

    #[test]
    fn an_answer_says_when_to_come_back() {
        let now = time::macros::datetime!(2026-01-01 00:00:00 UTC);
        let after = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            Answer { status: StatusCode::OK, headers, body: Bytes::new(), took: Duration::ZERO }.retry_after(now)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Thu, 01 Jan 2026 00:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Wed, 31 Dec 2025 00:00:30 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
