//! An internal listener that echoes, and a client of it, in one program without a socket.

use adit_internal::{DEFAULT_MAX_HOPS, InternalListeners, Limits, Passed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listeners = InternalListeners::new(Limits::default(), DEFAULT_MAX_HOPS);
    let mut acceptor = listeners.listen("echo", 16)?;
    tokio::spawn(async move {
        loop {
            let (mut reader, mut writer) = tokio::io::split(acceptor.accept().await);
            tokio::spawn(async move {
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            });
        }
    });
    let mut client = listeners.connect("echo", &"".into(), Passed::default())?;
    client.write_all(b"hello, this is no socket\n").await?;
    client.shutdown().await?;
    let mut text = String::new();
    client.read_to_string(&mut text).await?;
    print!("{text}");
    Ok(())
}
