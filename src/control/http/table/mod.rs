//! The table of routes. The router, the page at `/`, the OpenAPI document and the tests loop over it: a route exists by being a row
//! here. The rows stand by what they are for: [`questions`] about flows, [`intake`], [`operate`], [`quarantine`] and the endpoint's
//! [`own`].

mod intake;
mod operate;
mod own;
mod params;
mod quarantine;
mod questions;

use super::route::Route;

pub use intake::{LEASE_PATH, LEASES_PATH};

/// Most rows of one list. Longer lists are exports: `flows.csv`.
const ROWS_MAX: u64 = 100_000;

/// The groups, in the order in which they are shown.
const GROUPS: [&[Route]; 5] = [questions::ROUTES, intake::ROUTES, operate::ROUTES, quarantine::ROUTES, own::ROUTES];

/// Number of all routes.
const COUNT: usize = {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
};

static ALL: [Route; COUNT] = {
    let mut all = [GROUPS[0][0]; COUNT];
    let (mut place, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut index = 0;
        while index < GROUPS[group].len() {
            all[place] = GROUPS[group][index];
            (place, index) = (place + 1, index + 1);
        }
        group += 1;
    }
    all
};

/// Every route.
pub static ROUTES: &[Route] = &ALL;
