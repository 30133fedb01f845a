"""What is done beside the answers: what it costs an answer that some requests are kept, or scored by a shadow."""
