/// Counts the messages of a response.
#[derive(Default)]
pub struct Answers {
    pub complete: usize,
    header: [u8; 5],
    header_len: usize,
    /// Bytes that the message at hand still lacks.
    missing: usize,
}

impl Answers {
    pub fn count(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.header_len < self.header.len() {
                let len = data.len().min(self.header.len() - self.header_len);
                self.header[self.header_len..][..len].copy_from_slice(&data[..len]);
                self.header_len += len;
                data = &data[len..];
                if self.header_len < self.header.len() {
                    return;
                }
                let [_, len @ ..] = self.header;
                self.missing = u32::from_be_bytes(len) as usize;
            }
            let len = data.len().min(self.missing);
            self.missing -= len;
            data = &data[len..];
            if self.missing == 0 {
                self.complete += 1;
                self.header_len = 0;
            }
        }
    }
}
