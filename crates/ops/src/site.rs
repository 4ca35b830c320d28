//! `SiteService`: what the site is, holds and hears.

use bruri_wire::proto::site::v1::{
    AdmitSiteRequest, AdmitSiteResponse, GetStatusRequest, GetStatusResponse, InviteSiteRequest,
    InviteSiteResponse, ListMembersRequest, ListMembersResponse, ProveConvergenceRequest,
    RetireSiteRequest, RetireSiteResponse, site_service_server::SiteService,
};
use tonic::{Request, Response, Status};

use crate::{Ops, encode, facts, members, operator::operator, prove, status};

#[tonic::async_trait]
impl SiteService for Ops {
    type ProveConvergenceStream = prove::Proofs;

    async fn prove_convergence(
        &self,
        _request: Request<ProveConvergenceRequest>,
    ) -> Result<Response<prove::Proofs>, Status> {
        Ok(Response::new(prove::prove(self)))
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let facts = facts::gather(self).await.map_err(|e| status(&e))?;

        Ok(Response::new(encode::site_status(self, facts)))
    }

    async fn list_members(
        &self,
        _request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        members::list(self).await.map(Response::new)
    }

    async fn invite_site(
        &self,
        request: Request<InviteSiteRequest>,
    ) -> Result<Response<InviteSiteResponse>, Status> {
        let operator = operator(&request).await?;
        members::invite(self, request.into_inner(), &operator).await.map(Response::new)
    }

    async fn admit_site(
        &self,
        request: Request<AdmitSiteRequest>,
    ) -> Result<Response<AdmitSiteResponse>, Status> {
        let operator = operator(&request).await?;
        members::admit(self, request.into_inner(), &operator).await.map(Response::new)
    }

    async fn retire_site(
        &self,
        request: Request<RetireSiteRequest>,
    ) -> Result<Response<RetireSiteResponse>, Status> {
        let operator = operator(&request).await?;
        members::retire(self, request.get_ref(), &operator).await.map(Response::new)
    }
}
