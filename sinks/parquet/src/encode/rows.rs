use super::content::Content;
use super::places::Places;

/// Which rows are stored, and in which order.
#[derive(Debug)]
pub struct Rows {
    /// Rows of all parts together.
    pub total: usize,
    /// Row numbers over all parts, in stored order; `None` stores every row as it comes.
    pub order: Option<Vec<u32>>,
    /// Where each row goes, when all rows are stored.
    places: Option<Places>,
    /// A column that was brought together to find the order, by its name; its rows stand in stored order.
    pub(super) known: Option<(&'static str, Content)>,
}

impl Rows {
    /// Every row as it comes, or these.
    pub fn new(total: usize, order: Option<Vec<u32>>) -> Self {
        Self { total, order, places: None, known: None }
    }

    /// These rows, which may be all rows in another order.
    pub(super) fn ordered(total: usize, order: Vec<u32>, known: Option<(&'static str, Content)>) -> Self {
        let places = if order.len() == total { Places::new(&order) } else { None };
        Self { total, order: Some(order), places, known }
    }

    /// Rows stored.
    pub fn stored(&self) -> usize {
        self.order.as_ref().map_or(self.total, Vec::len)
    }

    /// Where each row goes; none when rows come in stored order, or are picked.
    pub(super) fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// The rows to fetch one by one, in stored order.
    pub(super) fn picked(&self) -> Option<&[u32]> {
        self.order.as_deref().filter(|_| self.places.is_none())
    }
}
