//! `SiteService`: what the site is, holds and hears.

use bruri_wire::proto::site::v1::{
    GetStatusRequest, GetStatusResponse, site_service_server::SiteService,
};
use tonic::{Request, Response, Status};

use crate::{Ops, encode, facts, status};

#[tonic::async_trait]
impl SiteService for Ops {
    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let facts = facts::gather(self).await.map_err(|e| status(&e))?;

        Ok(Response::new(encode::site_status(self, facts)))
    }
}
