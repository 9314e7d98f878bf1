use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::Result;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescPtr;

use super::chunk::ChunkEncoder;
use super::gather::gather;
use super::pages::Plan;
use super::rows::Rows;
use crate::table::{Cells, Layout, Leaf, Table};

/// A data file being written under a temporary name.
pub struct FileWriter {
    path: PathBuf,
    writer: SerializedFileWriter<BufWriter<File>>,
    schema: SchemaDescPtr,
    columns: Vec<Vec<Leaf>>,
    encoder: ChunkEncoder,
    rows: u64,
}

/// A data file that is complete and synced, still under its temporary name.
#[derive(Debug)]
pub struct WrittenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
}

impl FileWriter {
    /// Creates the file, replacing one of the same name.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(path: &Path, table: &Table, zstd_level: i32) -> Result<Self> {
        let schema = table.schema()?;
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_created_by(concat!("rgz-netflow ", env!("CARGO_PKG_VERSION")).to_string())
            .build();
        let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
        Ok(Self {
            path: path.to_path_buf(),
            writer: SerializedFileWriter::new(file, schema.root_schema_ptr(), Arc::new(properties))?,
            schema,
            columns: table.columns.iter().map(|c| c.leaves()).collect(),
            encoder: ChunkEncoder::new(zstd_level)?,
            rows: 0,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one row group. `cells` gives, for the number of a column, that column of every part.
    ///
    /// # Errors
    /// Of the file system.
    pub fn row_group<'a>(&mut self, rows: &Rows, mut cells: impl FnMut(usize) -> Vec<Cells<'a>>) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        let mut leaf_number = 0;
        for (number, leaves) in self.columns.iter().enumerate() {
            let layout = leaves.first().map_or(Layout::Plain, |leaf| leaf.layout);
            let gathered;
            let (contents, places) = match &rows.known {
                Some((name, content)) if leaves.first().is_some_and(|leaf| leaf.name == *name) => {
                    (std::slice::from_ref(content), None)
                }
                _ => {
                    gathered = gather(&cells(number), rows, layout);
                    (&gathered[..], rows.places())
                }
            };
            for (leaf, content) in leaves.iter().zip(contents) {
                let column = self.schema.column(leaf_number);
                let chunk = self.encoder.encode(&Plan::new(leaf, content, places), &column, rows.stored())?;
                group.append_column(&chunk.bytes, chunk.close)?;
                leaf_number += 1;
            }
        }
        group.close()?;
        self.rows += rows.stored() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> usize {
        self.writer.bytes_written()
    }

    /// Writes the footer and syncs the file.
    ///
    /// # Errors
    /// Of the file system; the file is then worth nothing.
    pub fn finish(self) -> Result<WrittenFile> {
        let mut out = self.writer;
        out.finish()?;
        let bytes = out.bytes_written() as u64;
        out.inner_mut().flush()?;
        out.inner().get_ref().sync_all()?;
        Ok(WrittenFile { path: self.path, rows: self.rows, bytes })
    }
}
