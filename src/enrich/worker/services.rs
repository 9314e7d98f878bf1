//! Which port serves and which application it is.

use crate::enrich::app::{App, Apps, Service};
use crate::enrich::dpi::{Dpi, Tuple};
use crate::flow::FlowBatch;

/// One entry a row of the batch.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: Vec<Service>,
    apps: Vec<App>,
}

impl Services {
    /// Fills the service port and finds the applications, by ports and protocol, then by inspection.
    pub fn find(&mut self, apps: &Apps, dpi: &Dpi, batch: &mut FlowBatch) {
        let rows = batch.len();
        let ports = (batch.src_port.values(), batch.dst_port.values());
        let protocols = batch.protocol.values();
        self.services.clear();
        if [ports.0.len(), ports.1.len(), protocols.len()] == [rows; 3] {
            let rows = ports.0.iter().zip(ports.1).zip(protocols);
            self.services.extend(rows.map(|((src, dst), protocol)| apps.service(*protocol, *src, *dst)));
        } else {
            self.services.extend((0..rows).map(|row| {
                let ports = (batch.src_port.value_or_default(row), batch.dst_port.value_or_default(row));
                apps.service(batch.protocol.value_or_default(row), ports.0, ports.1)
            }));
        }
        batch.service_port.clear();
        batch.service_port.extend_options(self.services.iter().map(|service| service.port));
        self.apps.clear();
        self.apps.extend(self.services.iter().map(|service| apps.app(service.app).unwrap_or_default()));
        if !dpi.is_empty() {
            inspect(dpi, batch, &mut self.apps);
        }
    }

    /// The application of each row.
    pub fn apps(&self) -> impl ExactSizeIterator<Item = &App> + Clone {
        self.apps.iter()
    }
}

/// Names by inspection what the ports do not name.
fn inspect(dpi: &Dpi, batch: &FlowBatch, apps: &mut [App]) {
    let mut hits = 0;
    for (row, app) in apps.iter_mut().enumerate().filter(|(_, app)| app.name == 0) {
        let (Some(src), Some(dst)) = (batch.src_ip.get(row), batch.dst_ip.get(row)) else { continue };
        let ports = (batch.src_port.value_or_default(row), batch.dst_port.value_or_default(row));
        let tuple = Tuple::new((src, ports.0), (dst, ports.1), batch.protocol.value_or_default(row));
        let (start_ms, end_ms) = (batch.flow_start.value_or_default(row), batch.time.value_or_default(row));
        if let Some(found) = dpi.find(&tuple, start_ms, end_ms) {
            *app = found;
            hits += 1;
        }
    }
    dpi.count_hits(hits);
}
