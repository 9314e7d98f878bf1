/// A leaf's rows as they are read. `present` has one byte a row (1 = set), or is `None` when every row is set; a null row's
/// value is zero.
#[derive(Debug)]
pub enum LeafData {
    /// Every row is null.
    Null,
    /// Numbers of up to 32 bits.
    Narrow(Vec<u32>, Option<Vec<u8>>),
    /// Numbers of up to 64 bits; times are stored as they are, in two's complement.
    Wide(Vec<u64>, Option<Vec<u8>>),
    /// IPv6 addresses.
    Fixed16(Vec<u128>, Option<Vec<u8>>),
    /// Texts in order, and codes: 0 is null, `n` is value `n - 1`.
    Text(Vec<sink_api::Text>, Vec<u32>),
    /// UUIDs, likewise.
    Uuid(Vec<uuid::Uuid>, Vec<u32>),
}

impl LeafData {
    /// Rows held; 0 for [`LeafData::Null`], which does not know.
    pub fn rows(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Narrow(values, _) => values.len(),
            Self::Wide(values, _) => values.len(),
            Self::Fixed16(values, _) => values.len(),
            Self::Text(_, codes) | Self::Uuid(_, codes) => codes.len(),
        }
    }
}
