//! `HistoryService`: which files there are, who backed up what and when; put an older version back.

use bruri_wire::proto::history::v1::{
    DeleteFileRequest, DeleteFileResponse, GetVersionRequest, GetVersionResponse, ListFilesRequest,
    ListFilesResponse, ListVersionsRequest, ListVersionsResponse, RestoreVersionRequest,
    RestoreVersionResponse, history_service_server::HistoryService,
};
use tonic::{Request, Response, Status};

use crate::{Ops, decode, encode, operator::operator, restore, status};

#[tonic::async_trait]
impl HistoryService for Ops {
    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        let ListFilesRequest { name_prefix, page_size, after } = request.into_inner();
        let prefix = decode::name_prefix(&name_prefix)?;
        let page = decode::page(page_size)?;
        let after = after.map(|id| decode::file(Some(id))).transpose()?;

        let files = self.store.files(&prefix, after.as_ref(), page.with_one_more()).await;

        let (files, more) = page.cut(files.map_err(|e| status(&e))?);
        let files = files.into_iter().map(encode::file).collect();
        Ok(Response::new(ListFilesResponse { files, more }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let ListVersionsRequest { file, page_size, after_dot } = request.into_inner();
        let file = decode::file(file)?;
        let page = decode::page(page_size)?;
        let after = decode::dot_if_any(&after_dot)?;

        let versions = self.store.versions(&file, after.as_ref(), page.with_one_more()).await;

        let (versions, more) = page.cut(versions.map_err(|e| status(&e))?);
        let versions = versions.into_iter().map(encode::version).collect();
        Ok(Response::new(ListVersionsResponse { versions, more }))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let GetVersionRequest { file, dot } = request.into_inner();
        let file = decode::file(file)?;
        let dot = decode::dot_if_any(&dot)?;

        let (entry, content) =
            self.store.version(&file, dot.as_ref()).await.map_err(|e| status(&e))?;

        let version = Some(encode::version(entry));
        let body = content.map(Into::into).unwrap_or_default();
        Ok(Response::new(GetVersionResponse { version, body }))
    }

    async fn restore_version(
        &self,
        request: Request<RestoreVersionRequest>,
    ) -> Result<Response<RestoreVersionResponse>, Status> {
        let operator = operator(&request).await?;
        let RestoreVersionRequest { file, dot } = request.into_inner();
        let file = decode::file(file)?;
        let dot = decode::dot(&dot)?;

        let restored =
            restore::restore(self, &file, &dot, operator).await.map_err(|e| status(&e))?;

        let version = Some(encode::version(restored.version));
        Ok(Response::new(RestoreVersionResponse { version, appended: restored.appended }))
    }

    async fn delete_file(
        &self,
        request: Request<DeleteFileRequest>,
    ) -> Result<Response<DeleteFileResponse>, Status> {
        let operator = operator(&request).await?;
        let file = decode::file(request.into_inner().file)?;

        let deletion = restore::delete(self, &file, operator).await.map_err(|e| status(&e))?;

        let (appended, dot) = (deletion.is_some(), deletion.map(|dot| dot.to_string()));
        Ok(Response::new(DeleteFileResponse { appended, dot: dot.unwrap_or_default() }))
    }
}
