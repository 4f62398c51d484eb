//! Changes to inputs: blind ones, and such as know what responses are made of.

/// What parsers of HTTP stumble over.
pub const HTTP: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\n ",
    b"\r\n\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b" ",
    b"\t",
    b":",
    b": ",
    b";",
    b",",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.1 304 \r\n",
    b"HTTP/2",
    b"HTTP/1.1",
    b"200",
    b"100",
    b"999",
    b"000",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:",
    b"chunked",
    b"gzip, ",
    b"identity",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: content-length, transfer-encoding\r\n",
    b"Upgrade: websocket\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"Trailer: x\r\n",
    b"X: y\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"5\r\nhello\r\n",
    b"1;a=b\r\nx\r\n",
    b"ffffffffffffffff\r\n",
    b"10000000000000000",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-1",
    b"+1",
    b"0x10",
    b"00000000000000001",
    b"1e3",
    b"\"",
    b"=\"",
    b"\\\"",
    b"max-age=",
    b"no-store",
    b"bytes=0-",
];

/// xorshift64*: the same seed, the same numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(number).unwrap() % limit.max(1)
    }

    pub fn choose<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }
}

/// One change.
pub fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let place = random.below(input.len() + 1);
    let end = (place + 1 + random.below(24)).min(input.len());
    match random.below(10) {
        0 => flip(input, place, random),
        1 => set(input, place, u8::try_from(random.below(256)).unwrap()),
        2 | 3 => {
            let word = *random.choose(words);
            insert(input, place, word);
        }
        4 => {
            let word = *random.choose(words);
            input.splice(place..end.max(place), word.iter().copied());
        }
        5 => {
            input.drain(place..end.max(place));
        }
        6 => {
            let piece = input[place..end.max(place)].to_vec();
            for _ in 0..1 + random.below(20) {
                insert(input, place, &piece);
            }
        }
        7 => {
            let other = random.choose(corpus);
            input.truncate(place);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        8 => count(input, place, random),
        _ => input.truncate(place),
    }
}

fn flip(input: &mut [u8], place: usize, random: &mut Random) {
    if let Some(byte) = input.get_mut(place) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(input: &mut [u8], place: usize, value: u8) {
    if let Some(byte) = input.get_mut(place) {
        *byte = value;
    }
}

fn insert(input: &mut Vec<u8>, place: usize, bytes: &[u8]) {
    input.splice(place..place, bytes.iter().copied());
}

/// The next digit becomes another.
fn count(input: &mut [u8], place: usize, random: &mut Random) {
    if let Some(digit) = input
        .iter_mut()
        .skip(place)
        .find(|byte| byte.is_ascii_hexdigit())
    {
        *digit = b"0123456789abcdefABCDEFg"[random.below(23)];
    }
}
