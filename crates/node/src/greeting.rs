use crate::app::App;
use crate::config::{Config, EngineKind};

/// What a person who started a server wants to know next.
pub(crate) fn greeting(config: &Config, app: &App) -> String {
    let urls: Vec<String> = app.listen_urls().map(|url| url.to_string()).collect();
    let endpoints = app.advertised_urls().join(",");
    let data = match config.engine {
        EngineKind::Embedded => {
            let dir = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
            dir.display().to_string()
        }
        EngineKind::Tikv => {
            let prefix = config.key_space.prefix();
            format!("TiKV at {}, under the prefix {prefix:?}", config.tikv.pd_endpoints.join(","))
        }
        EngineKind::Memory => "in memory only, gone when it stops".to_owned(),
    };
    format!(
        "\
Orlop {version} serves the etcd v3 API (3.7)
  on    {urls}
  data  {data} ({keys} keys, revision {revision})
  try   etcdctl --endpoints={endpoints} put hello world
        kube-apiserver --etcd-servers={endpoints} ...
  stop  Ctrl-C
",
        version = env!("CARGO_PKG_VERSION"),
        urls = urls.join(", "),
        keys = app.key_count(),
        revision = app.revision(),
    )
}
