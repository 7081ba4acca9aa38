//! Follows gRPC's framing in passing bytes: where messages begin and how long they are.

/// Length of the prefix of a message: one flag byte and four length bytes.
const PREFIX: usize = 5;

/// Counts messages and their lengths without keeping a byte of them.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Longest message in bytes; 0 = no limit.
    limit: usize,
    prefix: [u8; PREFIX],
    prefix_filled: usize,
    message_left: usize,
    messages: u64,
}

/// A message that is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    pub(super) length: usize,
    pub(super) limit: usize,
}

impl Meter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Messages whose first byte has passed.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Looks at the next bytes of the stream.
    pub(super) fn pass(&mut self, mut data: &[u8]) -> Result<(), TooLong> {
        while !data.is_empty() {
            if self.message_left > 0 {
                let step = self.message_left.min(data.len());
                self.message_left -= step;
                data = &data[step..];
                continue;
            }
            if self.prefix_filled == 0 {
                self.messages += 1;
            }
            let step = (PREFIX - self.prefix_filled).min(data.len());
            self.prefix[self.prefix_filled..self.prefix_filled + step].copy_from_slice(&data[..step]);
            self.prefix_filled += step;
            data = &data[step..];
            if self.prefix_filled == PREFIX {
                self.prefix_filled = 0;
                let [_flag, a, b, c, d] = self.prefix;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.limit > 0 && length > self.limit {
                    return Err(TooLong { length, limit: self.limit });
                }
                self.message_left = length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.extend(vec![7; length as usize]);
        bytes
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let stream = [message(0), message(3), message(300)].concat();
        for chunk in [1, 2, 4, 5, 7, 1000] {
            let mut meter = Meter::new(300);
            for part in stream.chunks(chunk) {
                meter.pass(part).unwrap();
            }
            assert_eq!((meter.messages(), meter.message_left, meter.prefix_filled), (3, 0, 0), "{chunk}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_seen_at_its_prefix() {
        let mut meter = Meter::new(10);
        meter.pass(&message(10)).unwrap();
        assert_eq!(meter.pass(&message(11)[..PREFIX]), Err(TooLong { length: 11, limit: 10 }));
        assert!(Meter::new(0).pass(&message(11)).is_ok());
    }
}
