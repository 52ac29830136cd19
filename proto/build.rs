//! Generates the wire types from `tidegate/v1/link.proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=tidegate");
    let files = protox::compile(["tidegate/v1/link.proto"], ["."])?;
    tonic_prost_build::configure()
        // Secret types have no way into a log.
        .skip_debug([
            "tidegate.v1.ControlMessage",
            "tidegate.v1.ControlMessage.message",
            "tidegate.v1.Secrets",
            "tidegate.v1.PrivateKey",
            "tidegate.v1.TicketKeys",
            "tidegate.v1.ListenerTicketKeys",
            "tidegate.v1.TicketKey",
            "tidegate.v1.EnrollRequest",
            "tidegate.v1.Challenges",
            "tidegate.v1.Challenge",
        ])
        .bytes(".tidegate.v1.Snapshot.payload")
        .compile_fds(files)?;
    Ok(())
}
