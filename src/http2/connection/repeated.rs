use super::request::BuiltRequest;
use crate::http2::hpack::Decoder;

/// A longer block or header list is not kept, so that an idle connection holds little. In bytes.
const MAX_BLOCK: usize = 256;
const MAX_LIST: usize = 2 * 1024;

/// The last request, for the case that the client repeats it. An equal block is an equal request as
/// long as the dynamic table does not change. So calls share their headers, unless each of them has
/// a value of its own, such as a deadline.
pub(super) struct RepeatedRequest {
    block: Vec<u8>,
    table_changes: u64,
    request: BuiltRequest,
}

impl RepeatedRequest {
    /// Returns the request again, if this block repeats it.
    pub(super) fn find(&self, block: &[u8], decoder: &Decoder) -> Option<BuiltRequest> {
        let is_repeated = self.block == block && self.table_changes == decoder.table_changes();
        is_repeated.then(|| self.request.clone())
    }

    /// Keeps the request of a block that has not changed the table, in place of the one before.
    /// Requests with secrets are not kept.
    pub(super) fn keep(
        kept: &mut Option<Box<Self>>,
        block: &[u8],
        request: &BuiltRequest,
        decoder: &Decoder,
    ) {
        if block.len() > MAX_BLOCK || request.size > MAX_LIST || request.sensitive {
            return;
        }
        let kept = kept.get_or_insert_with(|| {
            Box::new(Self { block: Vec::new(), table_changes: 0, request: request.clone() })
        });
        kept.block.clear();
        kept.block.extend_from_slice(block);
        kept.table_changes = decoder.table_changes();
        kept.request = request.clone();
    }
}
