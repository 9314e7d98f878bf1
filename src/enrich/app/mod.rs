//! Applications by port and protocol: the built-in table and the operator's rows over it, in arrays without a search.
//!
//! One port of a flow is nearly always any of tens of thousands that nobody named. Ports stand in pages, and those without a
//! name share one, so that what flows touch stays in the smallest cache.

mod builtin;
pub mod protocol;
#[cfg(test)]
mod tests;

use std::hint::select_unpredictable;

use super::names::{Names, TooManyNames};

/// Protocols with ports. UDP-Lite shares the names of UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
    Dccp,
}

const TRANSPORTS: usize = 4;
/// Ports of a page.
const PAGE_PORTS: usize = 64;
/// Pages of a transport.
const PAGES: usize = (1 << u16::BITS) / PAGE_PORTS;
/// The page of ports that have no name.
const UNNAMED: u16 = 0;

/// The transport of each protocol number; [`TRANSPORTS`] = none.
static TRANSPORT_OF: [u8; 256] = {
    let mut of = [TRANSPORTS as u8; 256];
    of[6] = Transport::Tcp as u8;
    of[17] = Transport::Udp as u8;
    of[136] = Transport::Udp as u8;
    of[132] = Transport::Sctp as u8;
    of[33] = Transport::Dccp as u8;
    of
};

/// Set in a port's cell when the operator named the port; the other bits are the application's index + 1, 0 = unknown.
const OVERRIDE: u16 = 1 << 15;

/// Applications that fit beside `OVERRIDE` in a cell.
pub const APPS_MAX: usize = OVERRIDE as usize - 1;

/// An application. Names are numbers in [`Names::texts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Its name; 0 = unknown.
    pub name: u32,
    /// Its category, 0 = none.
    pub category: u32,
}

/// What a flow's protocol and ports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Service {
    /// The port of the side that serves, 0 = neither is known; `None` for protocols without ports.
    pub port: Option<u16>,
    /// Number of the application for [`Apps::app`]; 0 = unknown.
    pub app: u16,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Apps {
    /// By transport and port / [`PAGE_PORTS`]: index in `pages`.
    page_of: Box<[[u16; PAGES]; TRANSPORTS]>,
    /// A cell a port; the first page is [`UNNAMED`].
    pages: Vec<[u16; PAGE_PORTS]>,
    protocols: [u16; 256],
    apps: Vec<App>,
}

/// Why a port could not be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// The pool of names is full.
    #[error(transparent)]
    Names(#[from] TooManyNames),
    /// See [`APPS_MAX`].
    #[error("more than {APPS_MAX} different applications")]
    TooMany,
}

impl Apps {
    /// The built-in table.
    ///
    /// # Errors
    /// When the pool of names is full.
    pub fn builtin(names: &Names) -> Result<Self, AppError> {
        let mut apps = Self {
            page_of: Box::new([[UNNAMED; PAGES]; TRANSPORTS]),
            pages: vec![[0; PAGE_PORTS]],
            protocols: [0; 256],
            apps: Vec::new(),
        };
        for &(transports, first, last, name, category) in builtin::PORTS {
            let app = apps.add(names, name, category)?;
            for transport in transports {
                apps.fill(*transport, first..=last, app);
            }
        }
        for &(protocol, name, category) in builtin::PROTOCOLS {
            apps.protocols[protocol as usize] = apps.add(names, name, category)?;
        }
        Ok(apps)
    }

    /// The operator names a range of ports, over whatever was there. `app` is (name, category or "").
    ///
    /// # Errors
    /// When there are too many names.
    pub fn name_ports(
        &mut self,
        names: &Names,
        transport: Transport,
        ports: std::ops::RangeInclusive<u16>,
        (name, category): (&str, &str),
    ) -> Result<(), AppError> {
        let app = self.add(names, name, category)?;
        self.fill(transport, ports, app | OVERRIDE);
        Ok(())
    }

    /// The operator names a protocol without ports. `app` is (name, category or "").
    ///
    /// # Errors
    /// When there are too many names.
    pub fn name_protocol(
        &mut self,
        names: &Names,
        protocol: u8,
        (name, category): (&str, &str),
    ) -> Result<(), AppError> {
        self.protocols[usize::from(protocol)] = self.add(names, name, category)?;
        Ok(())
    }

    fn add(&mut self, names: &Names, name: &str, category: &str) -> Result<u16, AppError> {
        let category = if category.is_empty() { 0 } else { names.texts.number(&category.into())? };
        let app = App { name: names.texts.number(&name.into())?, category };
        let index = self.apps.iter().position(|known| *known == app).unwrap_or(self.apps.len());
        if index >= APPS_MAX {
            return Err(AppError::TooMany);
        }
        if index == self.apps.len() {
            self.apps.push(app);
        }
        Ok(index as u16 + 1)
    }

    fn fill(&mut self, transport: Transport, ports: std::ops::RangeInclusive<u16>, cell: u16) {
        for port in ports.map(usize::from) {
            let page = &mut self.page_of[transport as usize][port / PAGE_PORTS];
            if *page == UNNAMED {
                *page = self.pages.len() as u16;
                self.pages.push([0; PAGE_PORTS]);
            }
            self.pages[usize::from(*page)][port % PAGE_PORTS] = cell;
        }
    }

    #[inline]
    fn cell(&self, transport: usize, port: u16) -> u16 {
        let port = usize::from(port);
        let page = self.page_of[transport][port / PAGE_PORTS];
        self.pages[usize::from(page)][port % PAGE_PORTS]
    }

    /// The service of a flow: the side's port that the table knows, the operator's names first, else the lower known one.
    #[inline]
    pub fn service(&self, protocol: u8, src_port: u16, dst_port: u16) -> Service {
        let transport = usize::from(TRANSPORT_OF[usize::from(protocol)]);
        if transport == TRANSPORTS {
            return Service { port: None, app: self.protocols[usize::from(protocol)] };
        }
        let (src, dst) = (self.cell(transport, src_port), self.cell(transport, dst_port));
        // Smaller is better: known before unknown, the operator's before built-in, then the lower port.
        let rank =
            |cell: u16, port: u16| u32::from(cell == 0) << 17 | u32::from(cell & OVERRIDE == 0) << 16 | u32::from(port);
        // Which side serves changes from flow to flow, as the protocol does: no branch foresees either.
        let by_dst = rank(dst, dst_port) <= rank(src, src_port);
        let (cell, port) = (select_unpredictable(by_dst, dst, src), select_unpredictable(by_dst, dst_port, src_port));
        Service { port: Some(if cell == 0 { 0 } else { port }), app: cell & !OVERRIDE }
    }

    /// The application of a number that [`Apps::service`] gave; `None` for 0.
    #[inline]
    pub fn app(&self, number: u16) -> Option<App> {
        usize::from(number).checked_sub(1).and_then(|index| self.apps.get(index)).copied()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let pages = size_of_val(&*self.page_of) + self.pages.capacity() * size_of::<[u16; PAGE_PORTS]>();
        pages + size_of::<Self>() + size_of::<App>() * self.apps.capacity()
    }
}
