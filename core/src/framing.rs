//! Where one HTTP/1.1 request ends and the next begins: decided here, on the bytes as
//! the client sent them, before anything else reads them. What two servers could
//! frame differently is refused, not mended (request smuggling; RFC 9112 sections
//! 2.2, 5, 6.3, 7.1 and 11.2), so that one reading is left for whoever parses it.
//!
//! Owns no bytes but an unfinished line, and no meaning but what frames a message.
//! The agent shows it every byte ([`Framing::examine`]) and passes on what it lets
//! pass; [`target`] does the rest of the head: where a request is for, in HTTP/2 too.

use std::net::SocketAddr;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

/// A line that announces a chunk, extensions included.
const LONGEST_CHUNK_LINE: usize = 1024;

/// Why bytes are not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The head or the trailers are larger than they may be, or have more fields: 431.
    TooLarge,
    /// They are no request, or one that has more than one reading: 400.
    Malformed(&'static str),
}

/// What was refused, and after how many bytes that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Bytes of the examined ones that come before.
    pub after: usize,
    /// What is wrong.
    pub why: Why,
}

/// One direction of one connection, from its first byte.
#[derive(Clone, Debug)]
pub struct Framing {
    max_bytes: usize,
    max_fields: usize,
    state: State,
    head: Head,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of a request has come; one empty line may.
    Between {
        skipped: bool,
    },
    /// In the lines of a head.
    Head,
    /// In a body of known length, with so much to come.
    Body(u64),
    /// In the line before a chunk.
    ChunkLine,
    /// In a chunk, with so much to come; then its line end.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// The request asks for another protocol. What follows is none of ours, unless
    /// the answer is no; whoever gives it ends the connection.
    Upgrade,
    Refused(Why),
}

/// What the lines of a head have said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    bytes: usize,
    fields: usize,
    is_http_10: bool,
    has_host: bool,
    has_upgrade: bool,
    length: Option<u64>,
    is_chunked: bool,
}

impl Framing {
    /// Before the first byte. Heads and trailers have at most `max_bytes`, line ends
    /// included, and `max_fields`.
    pub fn new(max_bytes: usize, max_fields: usize) -> Self {
        Self {
            max_bytes,
            max_fields,
            state: State::Between { skipped: false },
            head: Head::default(),
            line: Vec::new(),
        }
    }

    /// Whether the last request has come as a whole, and nothing of the next.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Between { skipped: false }) && self.line.is_empty()
    }

    /// Whether a head has begun and not ended.
    pub fn in_head(&self) -> bool {
        match self.state {
            State::Between { skipped } => skipped || !self.line.is_empty(),
            State::Head => true,
            _ => false,
        }
    }

    /// Looks at what came next.
    ///
    /// # Errors
    /// Where it stops being a request with one reading. It stays so: whatever comes
    /// later is refused for the same reason.
    pub fn examine(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let after = bytes.len() - rest.len();
            match self.step(rest) {
                Ok(left) => rest = left,
                Err(why) => {
                    self.state = State::Refused(why);
                    self.line = Vec::new();
                    return Err(Refused { after, why });
                }
            }
        }
        Ok(())
    }

    /// One line, or one stretch of a body; answers with what is after it.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Why> {
        match self.state {
            State::Between { .. } | State::Head | State::Trailers | State::ChunkLine => {
                self.lines(bytes)
            }
            State::Body(left) => Ok(self.skip(bytes, left, State::Body)),
            State::Chunk(left) => Ok(self.skip(bytes, left, State::Chunk)),
            State::ChunkEnd => self.lines(bytes),
            State::Upgrade => Ok(&[]),
            State::Refused(why) => Err(why),
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, state: fn(u64) -> State) -> &'a [u8] {
        let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (_, rest) = bytes.split_at(here);
        self.state = match (left - here as u64, state(0)) {
            (0, State::Chunk(_)) => State::ChunkEnd,
            (0, _) => State::Between { skipped: false },
            (left, _) => state(left),
        };
        rest
    }

    fn lines<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Why> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.fits(bytes.len())?;
            self.line.extend_from_slice(bytes);
            return Ok(&[]);
        };
        let (line, rest) = bytes.split_at(end + 1);
        self.fits(line.len())?;
        if self.line.is_empty() {
            self.line(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.line(&whole)?;
        }
        Ok(rest)
    }

    /// Whether the unfinished line may be that much longer.
    fn fits(&self, more: usize) -> Result<(), Why> {
        let length = self.line.len().saturating_add(more);
        match self.state {
            State::ChunkLine | State::ChunkEnd if length > LONGEST_CHUNK_LINE => {
                Err(Why::Malformed("the line before a chunk is too long"))
            }
            State::ChunkLine | State::ChunkEnd => Ok(()),
            _ if self.head.bytes.saturating_add(length) > self.max_bytes => Err(Why::TooLarge),
            _ => Ok(()),
        }
    }

    /// A whole line, with its end.
    fn line(&mut self, whole: &[u8]) -> Result<(), Why> {
        let line = whole
            .strip_suffix(b"\r\n")
            .ok_or(Why::Malformed("a line ends without CR"))?;
        if line.iter().any(|&byte| is_control(byte)) {
            return Err(Why::Malformed("a line has a control character in it"));
        }
        self.head.bytes += whole.len();
        match (self.state, line) {
            (State::Between { skipped: false }, []) => {
                self.state = State::Between { skipped: true }
            }
            (State::Between { .. }, []) => return Err(Why::Malformed("empty lines, no request")),
            (State::Between { .. }, line) => {
                self.head.is_http_10 = request_line(line)?;
                self.state = State::Head;
            }
            (State::Head, []) => self.state = self.begin_body()?,
            (State::Head, line) => self.field(line)?,
            (State::Trailers, []) => self.between(),
            (State::Trailers, line) => {
                self.count()?;
                split_field(line)?;
            }
            (State::ChunkEnd, []) => self.state = State::ChunkLine,
            (State::ChunkEnd, _) => return Err(Why::Malformed("a chunk is longer than it says")),
            (State::ChunkLine, line) => self.chunk(line)?,
            (State::Body(_) | State::Chunk(_) | State::Upgrade | State::Refused(_), _) => {}
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Why> {
        self.head.fields += 1;
        match self.head.fields > self.max_fields {
            true => Err(Why::TooLarge),
            false => Ok(()),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Why> {
        self.count()?;
        let (name, value) = split_field(line)?;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("content-length") {
            let length = decimal(value).ok_or(Why::Malformed("Content-Length is no number"))?;
            if self.head.length.replace(length).is_some() {
                return Err(Why::Malformed("there is more than one Content-Length"));
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Why::Malformed("Transfer-Encoding is not chunked"));
            }
            if std::mem::replace(&mut self.head.is_chunked, true) {
                return Err(Why::Malformed("there is more than one Transfer-Encoding"));
            }
        } else if is("host") {
            if std::mem::replace(&mut self.head.has_host, true) {
                return Err(Why::Malformed("there is more than one Host"));
            }
        } else if is("upgrade") {
            self.head.has_upgrade = true;
        }
        Ok(())
    }

    /// What follows a head.
    fn begin_body(&mut self) -> Result<State, Why> {
        let head = std::mem::take(&mut self.head);
        match (head.is_chunked, head.length) {
            (true, Some(_)) => Err(Why::Malformed("Transfer-Encoding and Content-Length")),
            (true, None) if head.is_http_10 => {
                Err(Why::Malformed("HTTP/1.0 has no Transfer-Encoding"))
            }
            (true, None) => Ok(State::ChunkLine),
            (false, None | Some(0)) if head.has_upgrade => Ok(State::Upgrade),
            (false, None | Some(0)) => Ok(State::Between { skipped: false }),
            (false, Some(length)) => Ok(State::Body(length)),
        }
    }

    fn chunk(&mut self, line: &[u8]) -> Result<(), Why> {
        let end = line.iter().position(|&byte| byte == b';');
        let (size, _extension) = line.split_at(end.unwrap_or(line.len()));
        let size = hexadecimal(size).ok_or(Why::Malformed("a chunk's size is no number"))?;
        self.head = Head::default();
        self.state = match size {
            0 => State::Trailers,
            size => State::Chunk(size),
        };
        Ok(())
    }

    fn between(&mut self) {
        self.state = State::Between { skipped: false };
        self.head = Head::default();
    }
}

/// Tab may be in a value (RFC 9110 section 5.5); bytes beyond ASCII are opaque there.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Answers whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Why> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Why::Malformed("a request line has three words"));
    };
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(Why::Malformed("the method is no token"));
    }
    // Some would cut a fragment off, others not.
    if target.is_empty() || target.iter().any(|byte| b"#\t".contains(byte)) {
        return Err(Why::Malformed("the target is no URI without a fragment"));
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Why::Malformed("the version is neither 1.1 nor 1.0")),
    }
}

/// Name and value, which stand in one line: obs-fold is refused (section 5.2), and so
/// is space before the colon (section 5.1).
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Why> {
    let colon = line.iter().position(|&byte| byte == b':');
    let (name, value) = line.split_at(colon.ok_or(Why::Malformed("a field without a colon"))?);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Why::Malformed("the name of a field is no token"));
    }
    let value = value.strip_prefix(b":").unwrap_or(value);
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Digits and nothing else: `+1` and `1, 1` are numbers to some. One too large for
/// hyper is none either.
fn decimal(digits: &[u8]) -> Option<u64> {
    let within = |&number: &u64| number <= u64::MAX - 2;
    fold(digits, 10, 20).filter(within)
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    fold(digits, 16, 16)
}

fn fold(digits: &[u8], radix: u32, most: usize) -> Option<u64> {
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = char::from(digit).to_digit(radix)?;
        number.checked_mul(radix.into())?.checked_add(digit.into())
    })
}

/// Puts the target in origin form and exactly one Host beside it (RFC 9112 sections
/// 3.2 and 3.2.2; RFC 9113 section 8.3.1); the version becomes 1.1. `destination` is
/// the host of a client too old to name one.
///
/// # Errors
/// When the request is for nobody, or for two.
pub fn target(head: &mut Parts, destination: SocketAddr) -> Result<(), &'static str> {
    if head.method == Method::CONNECT {
        return Err("this is not a proxy to connect through");
    }
    let authority = head
        .uri
        .authority()
        .map(|a| HeaderValue::from_str(a.as_str()));
    match (authority, hosts(&head.headers), head.version) {
        (Some(Ok(authority)), 1, Version::HTTP_2) if !same(&authority, &head.headers) => {
            return Err("Host is another one than :authority");
        }
        (Some(Ok(_)), 2.., _) => return Err("there is more than one Host"),
        // The target's own authority overrides the header.
        (Some(Ok(authority)), _, _) => {
            head.headers.insert(HOST, authority);
        }
        (Some(Err(_)), _, _) => return Err("the target's host is malformed"),
        (None, 1, _) => {}
        (None, 0, Version::HTTP_10) => {
            let address = HeaderValue::from_str(&destination.to_string());
            head.headers
                .insert(HOST, address.map_err(|_| "Host is missing")?);
        }
        (None, 0, _) => return Err("Host is missing"),
        (None, _, _) => return Err("there is more than one Host"),
    }
    // An app that joins a path to its own would take user information for a host.
    if head
        .headers
        .get(HOST)
        .is_some_and(|host| host.as_bytes().contains(&b'@'))
    {
        return Err("Host has user information in it");
    }
    if let Some(target) = head.uri.path_and_query().cloned() {
        head.uri = Uri::from(target);
    }
    head.version = Version::HTTP_11;
    Ok(())
}

fn same(authority: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes()))
}

fn hosts(headers: &HeaderMap) -> usize {
    headers.get_all(HOST).into_iter().count()
}

#[cfg(test)]
mod tests;
