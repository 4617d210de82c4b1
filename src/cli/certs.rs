//! `nightjar certs ca | server | client | node | show`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nightjar_gateway::tls::generate::{self, PemPair, Purpose};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::exit;

/// Make and show certificates.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a certificate authority: ca.crt, which clients trust, and ca.key, to be kept secret
    Ca {
        /// Its name
        #[arg(long, value_name = "NAME", default_value = "Nightjar CA")]
        cn: String,
        #[command(flatten)]
        files: Files,
        /// Days it is valid
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a server certificate: server.crt and server.key, for cert_file and key_file
    Server {
        /// Names and addresses clients use for this server
        #[arg(required = true, value_name = "NAME_OR_ADDRESS")]
        names: Vec<String>,
        #[command(flatten)]
        authority: Authority,
        #[command(flatten)]
        files: Files,
        /// Days it is valid; many clients refuse more than 825
        #[arg(long, default_value_t = 820, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a client certificate: NAME.crt and NAME.key
    Client {
        /// Its common name, which may become the user name
        name: String,
        #[command(flatten)]
        authority: Authority,
        #[command(flatten)]
        files: Files,
        /// Days it is valid
        #[arg(long, default_value_t = 820, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a certificate of a node for [cluster.tls]: NAME.crt and NAME.key; sign nodes with an authority of their own
    Node {
        /// The node's name, for the eyes of people
        name: String,
        #[command(flatten)]
        authority: Authority,
        #[command(flatten)]
        files: Files,
        /// Days it is valid
        #[arg(long, default_value_t = 820, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Show what is in a PEM file: subjects, names, validity, kinds of keys
    Show {
        /// File
        file: PathBuf,
    },
}

/// Where files are written.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// Directory to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

/// Who signs.
#[derive(Debug, clap::Args)]
pub struct Authority {
    /// Certificate of the authority [default: ca.crt in the directory written to]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Its key [default: ca.key in the directory written to]
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
}

/// What went wrong, with its exit code.
type Failure = (u8, String);

/// Runs the command.
pub fn run(command: &Command) -> ExitCode {
    let result = match command {
        Command::Ca { cn, files, days } => generate::ca(cn, *days)
            .map_err(|why| (exit::FAILED, why))
            .and_then(|pair| files.write("ca", &pair)),
        Command::Server {
            names,
            authority,
            files,
            days,
        } => authority.read(files).and_then(|ca| {
            let help = "names are DNS names or IP addresses";
            let pair = generate::issue(&ca, Purpose::Server, &names[0], names, *days)
                .map_err(|why| (exit::USAGE, format!("{why}\n  help: {help}")))?;
            files.write("server", &pair)
        }),
        Command::Client {
            name,
            authority,
            files,
            days,
        } => authority.named(files, Purpose::Client, name, *days),
        Command::Node {
            name,
            authority,
            files,
            days,
        } => authority.named(files, Purpose::Node, name, *days),
        Command::Show { file } => show(file),
    };
    match result {
        Ok(text) => exit::print(&text),
        Err((code, why)) => exit::fail(code, why),
    }
}

/// The name of a client becomes the name of its files.
fn file_name(name: &str) -> Result<(), Failure> {
    let bad =
        name.is_empty() || name.len() > 200 || name.starts_with('.') || name.contains(['/', '\0']);
    if bad {
        let why = format!(
            "{name:?} cannot be the name of a file\n  help: use a name without / that does not begin with a dot"
        );
        return Err((exit::USAGE, why));
    }
    Ok(())
}

impl Files {
    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (
            self.out.join(format!("{name}.crt")),
            self.out.join(format!("{name}.key")),
        )
    }

    /// Refuses to replace what exists: a key that is gone is gone.
    fn free(&self, name: &str) -> Result<(), Failure> {
        let (certificate, key) = self.paths(name);
        match [certificate, key].into_iter().find(|path| path.exists()) {
            Some(path) if !self.force => Err((
                exit::REFUSED,
                format!(
                    "{} exists\n  help: give --force to replace it, or another --out",
                    path.display()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, pair: &PemPair) -> Result<String, Failure> {
        self.free(name)?;
        let (certificate, key) = self.paths(name);
        let fail = |path: &Path, error: std::io::Error| {
            (
                exit::FAILED,
                format!("cannot write {}: {error}", path.display()),
            )
        };
        std::fs::create_dir_all(&self.out).map_err(|error| fail(&self.out, error))?;
        generate::write_private(&key, pair.key.as_bytes()).map_err(|error| fail(&key, error))?;
        generate::write_public(&certificate, pair.certificate.as_bytes())
            .map_err(|error| fail(&certificate, error))?;
        Ok(format!("{}\n{}\n", certificate.display(), key.display()))
    }
}

impl Authority {
    fn read(&self, files: &Files) -> Result<PemPair, Failure> {
        let (certificate, key) = files.paths("ca");
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| {
                let shown = path.display();
                let help = "make an authority with `nightjar certs ca`, or name one with --ca and --ca-key";
                (exit::USAGE, format!("cannot read {shown}: {error}\n  help: {help}"))
            })
        };
        Ok(PemPair {
            certificate: read(self.ca.as_deref().unwrap_or(&certificate))?,
            key: read(self.ca_key.as_deref().unwrap_or(&key))?,
        })
    }

    /// Makes a certificate whose name is that of its files.
    fn named(
        &self,
        files: &Files,
        purpose: Purpose,
        name: &str,
        days: u32,
    ) -> Result<String, Failure> {
        file_name(name)?;
        let ca = self.read(files)?;
        let pair =
            generate::issue(&ca, purpose, name, &[], days).map_err(|why| (exit::FAILED, why))?;
        files.write(name, &pair)
    }
}

/// Every block of a PEM file in words.
fn show(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let content = std::fs::read(file)
        .map_err(|error| (exit::NOT_FOUND, format!("cannot read {shown}: {error}")))?;
    let mut out = String::new();
    for block in Pem::iter_from_buffer(&content) {
        let block = block.map_err(|error| (exit::FAILED, format!("{shown}: not PEM: {error}")))?;
        if !out.is_empty() {
            out.push('\n');
        }
        match block.label.as_str() {
            "CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                let (_, certificate) =
                    X509Certificate::from_der(&block.contents).map_err(|error| {
                        (exit::FAILED, format!("{shown}: not a certificate: {error}"))
                    })?;
                out.push_str(&describe(&certificate));
            }
            label if label.ends_with("PRIVATE KEY") => {
                out.push_str("private key  (its content is not shown)\n")
            }
            label => out.push_str(&format!("{}\n", label.to_lowercase())),
        }
    }
    if out.is_empty() {
        return Err((
            exit::FAILED,
            format!(
                "{shown}: no PEM block in it\n  help: PEM begins with -----BEGIN CERTIFICATE-----"
            ),
        ));
    }
    Ok(out)
}

fn describe(certificate: &X509Certificate<'_>) -> String {
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .map(name_text)
            .collect::<Vec<_>>()
            .join(", "),
        Ok(None) => "none".to_owned(),
        Err(error) => format!("unreadable: {error}"),
    };
    let validity = certificate.validity();
    let state = match validity.time_to_expiration() {
        Some(left) => format!("{} days left", left.whole_days()),
        None => "NOT valid now".to_owned(),
    };
    let time = |time: x509_parser::time::ASN1Time| time.to_rfc2822().unwrap_or_else(|text| text);
    let lines = [
        ("certificate", certificate.subject().to_string()),
        ("issuer", certificate.issuer().to_string()),
        ("names", names),
        ("valid from", time(validity.not_before)),
        (
            "valid until",
            format!("{} ({state})", time(validity.not_after)),
        ),
        ("key", key_text(certificate.public_key())),
        (
            "authority",
            if certificate.is_ca() { "yes" } else { "no" }.to_owned(),
        ),
        ("serial", certificate.raw_serial_as_string()),
    ];
    let printable = |text: &str| {
        text.chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect::<String>()
    };
    lines
        .iter()
        .map(|(label, text)| format!("{label:11}  {}\n", printable(text)))
        .collect()
}

fn name_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            (*text).to_owned()
        }
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
                (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
                _ => "an address of the wrong length".to_owned(),
            }
        }
        other => other.to_string(),
    }
}

fn key_text(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {} bits", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA {} bits", point.key_size()),
        // RFC 8410 gives these two no parameters, only their identifiers.
        _ => match key.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => "Ed25519".to_owned(),
            "1.3.101.113" => "Ed448".to_owned(),
            other => format!("algorithm {other}"),
        },
    }
}
